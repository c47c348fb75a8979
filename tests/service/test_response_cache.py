"""Responses kept whole: the same images in the same form get the same bytes, and nothing else does."""

import hashlib

import pytest

from bootleg_service.response_cache import ResponseCache

from .pictures import shade, truncated_jpeg
from .serving import EMBEDDINGS, PATCHES, error_of, serving

pytestmark = pytest.mark.anyio

OWN = {"x-request-id", "server-timing"}
"""Headers that each answer has for itself."""


@pytest.fixture
def given(monkeypatch):
    """What the cache of responses was asked for: whether it had it."""
    found = []
    genuine = ResponseCache.get

    def spy(cache, *key):
        response = genuine(cache, *key)
        found.append(response is not None)
        return response

    monkeypatch.setattr(ResponseCache, "get", spy)
    return found


def said(answer):
    """An answer, but for what is its own."""
    return answer.status_code, answer.content, {k: v for k, v in answer.headers.items() if k not in OWN}


@pytest.mark.parametrize("accept", ["application/json", "application/x-npy", "application/octet-stream"])
@pytest.mark.parametrize("path", [EMBEDDINGS, PATCHES])
@pytest.mark.parametrize("images", [1, 3])
async def test_the_third_equal_request_is_sent_what_the_second_was(served, given, path, accept, images):
    files = [("images", (str(n), shade(n), "image/png")) for n in range(images)]
    answers = [await served.client.post(path, files=files, headers={"Accept": accept}) for _ in range(4)]
    assert given == [False, True, True]
    assert [answer.headers["x-cache"] for answer in answers] == ["miss", "hit", "hit", "hit"]
    assert said(answers[1]) == said(answers[2]) == said(answers[3])
    assert answers[0].content == answers[3].content
    assert len({answer.headers["x-request-id"] for answer in answers}) == 4
    assert served.sample("bootleg_images_total", outcome="cached") == 3 * images


@pytest.mark.parametrize(
    "other",
    [
        {"headers": {"Accept": "application/x-npy"}},
        {"params": {"dimensions": 4}},
        {"params": {"normalize": True}},
        {"params": {"dtype": "int8"}},
        {"params": {"pooling": "max"}},
        {"params": {"encoding_format": "base64"}},
    ],
)
async def test_another_form_is_another_response(served, other):
    plain = [await served.embed(shade(1)) for _ in range(3)]
    first, second, third = [await served.embed(shade(1), **other) for _ in range(3)]
    assert first.status_code == 200
    assert first.content != plain[0].content
    assert first.content == second.content == third.content
    assert (await served.embed(shade(1))).content == plain[0].content


async def test_another_order_is_another_response(served):
    async def vectors(*numbers):
        files = [("images", (str(n), shade(n), "image/png")) for n in numbers]
        answers = [await served.client.post(EMBEDDINGS, files=files) for _ in range(3)]
        assert answers[0].content == answers[2].content
        return [entry["embedding"] for entry in answers[2].json()["data"]]

    assert await vectors(1, 2) == (await vectors(2, 1))[::-1]
    assert len(await vectors(1, 1)) == 2
    assert len(await vectors(1)) == 1


async def test_a_response_with_an_image_at_fault_is_not_kept(served, given):
    files = [("images", (str(n), data, "image/png")) for n, data in enumerate((shade(1), truncated_jpeg()))]
    for _ in range(3):
        answer = await served.client.post(EMBEDDINGS, files=files, params={"on_error": "partial"})
        assert answer.status_code == 200
    assert given == []
    assert served.sample("bootleg_response_cache_bytes") == 0


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"X-Embedding-Space": "es1-" + 32 * "0"}, 409),
        ({"Accept": "text/html"}, 406),
        ({"Content-Type": "image/webp"}, 415),
        ({"X-Priority": "sooner"}, 400),
    ],
)
async def test_what_is_refused_is_refused_though_its_response_is_kept(served, headers, status):
    for _ in range(3):
        await served.embed(shade(1))
    assert (await served.embed(shade(1), headers=headers)).status_code == status


async def test_a_key_is_asked_for_and_charged(engine, given, tmp_path):
    file = tmp_path / "keys"
    file.write_text(f"three {hashlib.sha256(b'three').hexdigest()} 3\n")
    async with serving(engine, access__keys_file=file) as served:
        bearer = {"Authorization": "Bearer three"}
        for _ in range(3):
            assert (await served.embed(shade(1), headers=bearer)).status_code == 200
        assert given == [False, True]
        refused = await served.embed(shade(1), headers=bearer)
        assert (refused.status_code, error_of(refused)["code"]) == (429, "quota_exceeded")
        assert (await served.embed(shade(1))).status_code == 401
        assert given == [False, True]


async def test_an_answer_for_another_origin_leaves_nothing_in_it(engine):
    async with serving(engine, access__cors_origins=["https://one.example"]) as served:
        for _ in range(3):
            await served.embed(shade(1), headers={"Origin": "https://one.example"})
        answer = await served.embed(shade(1))
        assert "access-control-allow-origin" not in answer.headers


async def test_without_a_cache_nothing_is_kept(engine, given):
    async with serving(engine, cache__memory_bytes=0) as served:
        for _ in range(3):
            assert (await served.embed(shade(1))).headers["x-cache"] == "miss"
        assert given == []


async def test_the_least_recently_used_goes_and_the_bytes_stay_under_their_bound(engine, given):
    room = 2**18
    async with serving(engine, cache__memory_bytes=4 * room) as served:
        for number in range(120):
            for _ in range(2):
                await served.embed(shade(number))
            await served.embed(shade(0))
        assert room / 2 < served.sample("bootleg_response_cache_bytes") <= room
        await served.embed(shade(0))
        await served.embed(shade(1))
        assert given[-2:] == [True, False]


async def test_a_response_over_its_share_of_the_room_is_not_kept(engine, given):
    async with serving(engine, cache__memory_bytes=4 * 64 * 2500) as served:
        for _ in range(3):
            await served.embed(shade(1), headers={"Accept": "application/octet-stream"})
        assert given == [False, True]
        files = [("images", (str(n), shade(n), "image/png")) for n in range(30)]
        for _ in range(3):
            await served.client.post(EMBEDDINGS, files=files)
        assert given == [False, True, False, False]
