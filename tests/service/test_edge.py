import asyncio
import re

import pytest

from bootleg_service.errors import STATUS

from .fake_engine import SPACE
from .pictures import photo, shade, truncated_jpeg
from .serving import EMBEDDINGS, PATCHES, error_of, eventually, serving

pytestmark = pytest.mark.anyio

MARKER = "marker-4711 /srv/secret/weights.bin"
MADE_ID = re.compile(r"[0-9a-f]{32}")


async def outcomes(served):
    """Requests by outcome, as the metrics count them."""
    found = {}
    for metric in served.service.metrics.registry.collect():
        for sample in metric.samples:
            if sample.name == "bootleg_requests_total":
                outcome = sample.labels["outcome"]
                found[outcome] = found.get(outcome, 0) + sample.value
    return found


async def test_a_request_id_is_made_for_every_answer(served):
    first, second = await served.embed(shade(1)), await served.client.get("/info")
    ids = {response.headers["x-request-id"] for response in (first, second)}
    assert len(ids) == 2
    assert all(MADE_ID.fullmatch(made) for made in ids)


async def test_a_sound_request_id_is_echoed(served):
    response = await served.embed(shade(1), headers={"X-Request-ID": "Job_7.part-3"})
    assert response.headers["x-request-id"] == "Job_7.part-3"


@pytest.mark.parametrize("offered", ["", "two words", "a" * 65, "<script>", "a\tb", "semi;colon", "\xe9tude"])
async def test_any_other_request_id_is_replaced(served, offered):
    response = await served.embed(b"", headers={"X-Request-ID": offered.encode("latin-1")})
    assert MADE_ID.fullmatch(response.headers["x-request-id"])
    error_of(response)


@pytest.mark.parametrize("path", [EMBEDDINGS, PATCHES, "/nowhere"])
async def test_every_answer_names_its_embedding_space_and_is_not_to_be_stored_or_sniffed(served, path):
    response = await served.client.post(path, content=shade(1))
    assert response.headers["x-embedding-space"] == SPACE
    assert response.headers["x-content-type-options"] == "nosniff"
    assert response.headers["cache-control"] == "no-store"


async def test_an_unknown_path_is_404_in_the_envelope(served):
    response = await served.client.get("/nowhere")
    assert response.status_code == 404
    assert error_of(response)["code"] == "not_found"


@pytest.mark.parametrize("path", ["/v1/models/", "/embed/", "/admin/reload/"])
async def test_a_path_with_a_slash_too_many_is_404_and_no_redirect_to_whatever_host_was_named(served, path):
    response = await served.client.post(path, headers={"Host": "elsewhere.example"})
    assert response.status_code == 404
    assert "location" not in response.headers


async def test_a_wrong_method_is_405_in_the_envelope_and_names_the_right_ones(served):
    response = await served.client.get(EMBEDDINGS)
    assert response.status_code == 405
    assert error_of(response)["code"] == "method_not_allowed"
    assert response.headers["allow"] == "POST"


@pytest.fixture
def crashing(served, monkeypatch):
    async def answer(images, output, ticket):
        raise RuntimeError(MARKER)

    monkeypatch.setattr(served.service.pipeline, "answer_each", answer)
    return served


async def test_an_unforeseen_exception_is_500_without_its_text(crashing):
    response = await crashing.embed(shade(1))
    assert response.status_code == 500
    assert response.json()["error"]["code"] == "internal_error"
    assert MADE_ID.fullmatch(response.json()["error"]["request_id"])
    for word in MARKER.split():
        assert word not in response.text


async def test_an_unforeseen_exception_has_the_headers_of_every_answer(crashing):
    response = await crashing.embed(shade(1), headers={"X-Request-ID": "mine"})
    assert response.headers["x-request-id"] == "mine"
    assert response.headers["x-embedding-space"] == SPACE
    assert error_of(response)["request_id"] == "mine"


async def test_an_unforeseen_exception_is_counted_as_what_it_is(crashing):
    await crashing.embed(shade(1))
    assert await outcomes(crashing) == {"internal_error": 1}


async def test_a_model_that_fails_is_500_engine_error_without_its_text_and_the_next_request_works(served):
    served.engine.broken = True
    response = await served.embed(shade(1))
    assert response.status_code == 500
    assert error_of(response)["code"] == "engine_error"
    assert "CUDA" not in response.text
    served.engine.broken = False
    assert (await served.embed(shade(1))).status_code == 200


async def test_every_request_is_counted_with_exactly_one_outcome(engine):
    async with serving(engine, limits__request_seconds=0.2, limits__image__max_bytes=20_000) as served:
        post = served.client.post
        ends = [
            (await served.embed(shade(1))).status_code,
            (await served.embed(shade(1))).status_code,
            (await served.embed(b"")).status_code,
            (await served.embed(b"text")).status_code,
            (await served.embed(truncated_jpeg())).status_code,
            (await served.embed(b"x" * 20_001)).status_code,
            (await post("/v1/embeddings", content=b"{")).status_code,
            (await post("/v1/embeddings", json={"input": "http://x/y.jpg"})).status_code,
            (await served.client.get("/nowhere")).status_code,
            (await served.client.get(EMBEDDINGS)).status_code,
            (await served.client.get("/metrics")).status_code,
            (await post(EMBEDDINGS, content=shade(1), headers={"X-Embedding-Space": "es1-other"})).status_code,
        ]
        engine.broken = True
        ends.append((await served.embed(shade(2))).status_code)
        engine.broken = False
        engine.hold()
        ends.append((await served.embed(shade(3))).status_code)
        engine.release()
        assert ends == [200, 200, 400, 415, 422, 413, 400, 400, 404, 405, 200, 409, 500, 504]
        found = await outcomes(served)
    assert sum(found.values()) == len(ends)
    assert found == {
        "ok": 3,
        "empty_image": 1,
        "unsupported_image_format": 1,
        "corrupt_image": 1,
        "payload_too_large": 1,
        "invalid_request": 1,
        "image_url_refused": 1,
        "not_found": 1,
        "method_not_allowed": 1,
        "embedding_space_mismatch": 1,
        "engine_error": 1,
        "deadline_exceeded": 1,
    }
    assert set(found) - {"ok"} <= set(STATUS)


async def test_a_red_health_probe_is_not_counted_as_a_client_that_left(served):
    served.app.state.models.drain()
    assert (await served.client.get("/health/ready")).status_code == 503
    assert "client_closed" not in await outcomes(served)


async def test_a_client_that_leaves_is_counted_as_such(served):
    served.engine.hold()
    task = asyncio.create_task(served.embed(shade(1)))
    await eventually(lambda: served.engine.running == 1)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    served.engine.release()
    assert await outcomes(served) == {"client_closed": 1}


async def test_a_client_that_breaks_off_its_upload_is_no_error_of_ours(served, caplog):
    messages = iter([{"type": "http.request", "body": photo()[:500], "more_body": True}, {"type": "http.disconnect"}])
    scope = {
        "type": "http",
        "asgi": {"version": "3.0"},
        "http_version": "1.1",
        "method": "POST",
        "scheme": "http",
        "path": EMBEDDINGS,
        "raw_path": EMBEDDINGS.encode(),
        "query_string": b"",
        "root_path": "",
        "headers": [],
        "server": ("test", 80),
        "client": ("test", 1),
    }

    async def receive():
        return next(messages)

    async def send(message):
        pass

    await served.app(scope, receive, send)
    assert await outcomes(served) == {"client_closed": 1}
    assert not [record for record in caplog.records if record.levelname == "ERROR"]
