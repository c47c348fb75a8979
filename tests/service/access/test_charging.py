"""Every way to send images is charged to the key, image by image, before anything is decoded."""

import hashlib

import pytest

from tests.service.fake_engine import FakeEngine
from tests.service.image_routes import EACH_WAY
from tests.service.pictures import shade, truncated_jpeg
from tests.service.serving import EMBEDDINGS, error_of, serving

pytestmark = pytest.mark.anyio


def bearer(name):
    return {"Authorization": f"Bearer {name}"}


@pytest.fixture
async def bounded(tmp_path):
    """A server with a key for three images a minute, and one without a bound."""
    lines = [("three", " 3"), ("free", "")]
    file = tmp_path / "keys"
    file.write_text("".join(f"{name} {hashlib.sha256(name.encode()).hexdigest()}{quota}\n" for name, quota in lines))
    async with serving(FakeEngine(), access__keys_file=file) as running:
        yield running


@pytest.mark.parametrize("way", **EACH_WAY)
async def test_a_spent_quota_is_429_with_when_to_come_back_and_no_image_is_decoded(bounded, monkeypatch, way):
    statuses = [(await way.send(bounded.client, **bearer("three"))).status_code for _ in range(4)]
    decoded = []
    monkeypatch.setattr(bounded.service.pipeline, "answer_each", lambda *a: decoded.append(a))
    assert statuses[0] == 200
    assert statuses[3] == 429
    refused = await way.send(bounded.client, **bearer("three"))
    assert refused.status_code == 429
    assert "quota_exceeded" in refused.text
    assert 1 <= int(refused.headers["retry-after"]) <= 60
    assert decoded == []
    assert bounded.sample("bootleg_rejected_total", reason="quota") >= 2


@pytest.mark.parametrize("way", **EACH_WAY)
async def test_a_key_without_a_quota_is_never_refused(bounded, way):
    for _ in range(5):
        assert (await way.send(bounded.client, **bearer("free"))).status_code == 200


async def test_each_image_of_a_request_costs_one_cached_or_at_fault_too(bounded):
    async def send(*images, **params):
        files = [("images", ("a", image, "application/octet-stream")) for image in images]
        return await bounded.client.post(EMBEDDINGS, files=files, params=params, headers=bearer("three"))

    assert (await send(shade(1), truncated_jpeg(), on_error="partial")).status_code == 200
    assert (await send(shade(1))).status_code == 200
    refused = await send(shade(1))
    assert refused.status_code == 429
    assert error_of(refused)["code"] == "quota_exceeded"


async def test_a_request_that_no_quota_would_ever_cover_has_no_time_to_come_back(bounded):
    files = [("images", ("a", shade(n), "image/png")) for n in range(4)]
    refused = await bounded.client.post(EMBEDDINGS, files=files, headers=bearer("three"))
    assert refused.status_code == 429
    assert "retry-after" not in refused.headers
    assert "4 at once" in error_of(refused)["message"]


async def test_a_request_with_a_malformed_header_costs_nothing(bounded):
    for _ in range(5):
        bad = await bounded.embed(shade(1), headers=bearer("three") | {"X-Priority": "now"})
        assert bad.status_code == 400
    assert (await bounded.embed(shade(1), headers=bearer("three"))).status_code == 200
