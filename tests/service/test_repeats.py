"""Answers kept whole: the same request gets the same answer, at its usual price, and only as long as it is true."""

import asyncio
import hashlib

import pytest

from bootleg_service import repeats

from .pictures import shade, truncated_jpeg
from .serving import EMBEDDINGS, PATCHES, error_of, serving

pytestmark = pytest.mark.anyio

OWN = {"x-request-id", "server-timing"}
"""Headers that each answer has for itself."""


def said(answer):
    """An answer, but for what is its own."""
    return answer.status_code, answer.content, {k: v for k, v in answer.headers.items() if k not in OWN}


def whole(served):
    """Requests that were given whole answers."""
    return served.sample("bootleg_cache_lookups_total", store="answers", result="hit")


async def warmed(served, send, times=2):
    """Ask until the answer is kept."""
    for _ in range(times):
        await send()
    assert whole(served) == 0


@pytest.mark.parametrize("accept", ["application/json", "application/x-npy", "application/octet-stream"])
@pytest.mark.parametrize("path", [EMBEDDINGS, PATCHES])
async def test_the_third_equal_request_is_sent_what_the_second_was(served, path, accept):
    answers = [await served.client.post(path, content=shade(1), headers={"Accept": accept}) for _ in range(4)]
    assert whole(served) == 2
    assert [answer.headers["x-cache"] for answer in answers] == ["miss", "hit", "hit", "hit"]
    assert said(answers[1]) == said(answers[2]) == said(answers[3])
    assert answers[0].content == answers[3].content
    assert len({answer.headers["x-request-id"] for answer in answers}) == 4
    assert answers[3].headers["server-timing"].startswith("read;dur=")
    assert served.engine.numbers == [1]


async def test_a_form_of_several_images_is_one_request(served):
    files = [("images", (str(n), shade(n), "image/png")) for n in (1, 2, 3)]
    request = served.client.build_request("POST", EMBEDDINGS, files=files)  # with one boundary for all
    await request.aread()
    answers = []
    for _ in range(3):
        again = served.client.build_request("POST", EMBEDDINGS, content=request.content, headers=request.headers)
        answers.append(await served.client.send(again))
    assert said(answers[1]) == said(answers[2])
    assert whole(served) == 1
    assert served.sample("bootleg_images_total", outcome="cached") == 6


async def test_it_is_accounted_for_as_what_comes_out_of_the_cache(served):
    await warmed(served, lambda: served.embed(shade(1)))

    def counts():
        names = ("bootleg_images_total", "bootleg_requests_total", "bootleg_payload_bytes_sum")
        labels = ({"task": "embedding", "outcome": "cached"}, {"outcome": "ok"}, {"direction": "in"})
        return [served.sample(name, **some) for name, some in zip(names, labels, strict=True)]

    before = counts()
    await served.embed(shade(1))
    assert whole(served) == 1
    assert [after - was for after, was in zip(counts(), before, strict=True)] == [1, 1, len(shade(1))]


@pytest.mark.parametrize(
    "headers",
    [
        {"Accept": "application/x-npy"},
        {"Content-Type": "image/png"},
        {"X-Priority": "bulk"},
        {"X-Something-New": "1"},
    ],
)
async def test_a_header_that_may_decide_something_makes_another_request(served, headers):
    await warmed(served, lambda: served.embed(shade(1)))
    answer = await served.embed(shade(1), headers=headers)
    assert answer.status_code == 200
    assert whole(served) == 0


@pytest.mark.parametrize("name", ["User-Agent", "X-Request-ID", "traceparent", "X-Forwarded-For"])
async def test_a_header_that_decides_nothing_does_not(served, name):
    await warmed(served, lambda: served.embed(shade(1), headers={name: "one"}))
    assert (await served.embed(shade(1), headers={name: "two"})).status_code == 200
    assert whole(served) == 1


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"X-Embedding-Space": "es1-" + 32 * "0"}, 409),
        ({"Accept": "text/html"}, 406),
        ({"Content-Type": "image/webp"}, 415),
        ({"X-Priority": "sooner"}, 400),
    ],
)
async def test_what_is_refused_is_refused_though_the_image_is_known(served, headers, status):
    await warmed(served, lambda: served.embed(shade(1)))
    for _ in range(3):
        assert (await served.embed(shade(1), headers=headers)).status_code == status
    assert whole(served) == 0


async def test_errors_are_not_kept(served):
    for _ in range(4):
        assert (await served.embed(truncated_jpeg())).status_code == 422
    assert served.sample("bootleg_answers_bytes") == 0


async def test_options_go_the_usual_way(served):
    for _ in range(4):
        assert (await served.embed(shade(1), params={"dimensions": 4})).status_code == 200
    assert whole(served) == 0


async def test_a_long_body_is_not_looked_for_and_is_read_whole(served, monkeypatch):
    monkeypatch.setattr(repeats, "MAX_BODY_BYTES", len(shade(1)) - 1)
    async with serving(served.engine) as other:
        for _ in range(4):
            assert (await other.embed(shade(1))).status_code == 200
        assert whole(other) == 0


async def test_a_body_in_pieces_is_read_whole(served):
    async def pieces():
        data = shade(1)
        yield data[:10]
        await asyncio.sleep(0)
        yield data[10:]

    for _ in range(4):
        answer = await served.client.post(EMBEDDINGS, content=pieces(), headers={"Content-Length": str(len(shade(1)))})
        assert answer.status_code == 200


async def test_without_a_cache_nothing_is_kept(engine):
    async with serving(engine, cache__memory_bytes=0) as served:
        for _ in range(4):
            assert (await served.embed(shade(1))).headers["x-cache"] == "miss"
        assert served.sample("bootleg_answers_bytes") == 0


async def test_the_least_recently_used_goes_and_the_bytes_stay_under_their_bound(engine):
    room = 2**18
    async with serving(engine, cache__memory_bytes=4 * room) as served:
        for number in range(120):
            for _ in range(2):
                await served.embed(shade(number))
            await served.embed(shade(0))
        assert room / 2 < served.sample("bootleg_answers_bytes") <= room
        before = whole(served)
        await served.embed(shade(0))
        assert whole(served) == before + 1
        await served.embed(shade(1))
        assert whole(served) == before + 1


async def test_large_headers_count_as_bytes_too(engine):
    room = 2**20
    async with serving(engine, cache__memory_bytes=4 * room) as served:
        for number in range(3):
            for _ in range(2):
                await served.embed(shade(1), headers={"X-Filler": str(number) * 12_000})
        assert 3 * 12_000 < served.sample("bootleg_answers_bytes") < room
        found = whole(served)
        for _ in range(3):
            await served.embed(shade(1), headers={"X-Filler": "9" * 20_000})  # over its share of the room
        assert whole(served) == found


async def test_a_key_is_asked_for_and_charged(engine, tmp_path):
    file = tmp_path / "keys"
    file.write_text(f"three {hashlib.sha256(b'three').hexdigest()} 3\n")
    async with serving(engine, access__keys_file=file) as served:
        bearer = {"Authorization": "Bearer three"}
        for _ in range(3):
            assert (await served.embed(shade(1), headers=bearer)).status_code == 200
        assert whole(served) == 1
        refused = await served.embed(shade(1), headers=bearer)
        assert (refused.status_code, error_of(refused)["code"]) == (429, "quota_exceeded")
        assert (await served.embed(shade(1))).status_code == 401
        assert whole(served) == 1


async def test_what_another_model_answered_is_not_given(served):
    await warmed(served, lambda: served.embed(shade(1)))
    served.app.state.models.generation += 1  # as a reload does
    for _ in range(2):
        assert (await served.embed(shade(1))).status_code == 200
    assert whole(served) == 1
