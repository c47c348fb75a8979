"""The memory that bodies take is bounded, however many requests come at once."""

import asyncio

import pytest

from .fake_engine import FakeEngine
from .image_routes import EACH_WAY
from .pictures import shade
from .serving import EMBEDDINGS, error_of, eventually, serving

pytestmark = pytest.mark.anyio

BOUND = 200_000


@pytest.fixture
async def tight():
    limits = {"limits__max_body_bytes": BOUND, "limits__max_held_bytes": BOUND, "limits__image__max_bytes": BOUND}
    async with serving(FakeEngine(), **limits) as running:
        yield running


class Upload:
    """A body that stays unfinished until it is told."""

    def __init__(self, served, size):
        self.finish = asyncio.Event()
        self.answer = asyncio.create_task(served.client.post(EMBEDDINGS, content=self._chunks(size)))

    async def _chunks(self, size):
        yield bytes(size)
        await self.finish.wait()


async def test_many_uploads_at_once_never_take_more_than_the_bound_and_the_rest_is_told_to_come_back(tight):
    uploads = [Upload(tight, 60_000) for _ in range(20)]
    await eventually(lambda: sum(upload.answer.done() for upload in uploads) == 17)
    assert tight.sample("bootleg_held_bytes") == 180_000
    for upload in uploads:
        upload.finish.set()
    answers = await asyncio.gather(*(upload.answer for upload in uploads))
    refused = [answer for answer in answers if answer.status_code == 503]
    assert len(refused) == 17
    for answer in refused:
        assert error_of(answer)["code"] == "overloaded"
        assert int(answer.headers["retry-after"]) >= 1
        assert answer.headers["connection"] == "close"
    assert {answer.status_code for answer in answers} - {503} == {415}, "the others were read whole: no images"
    assert tight.sample("bootleg_held_bytes") == 0
    assert (await tight.embed(shade(1))).status_code == 200


async def test_a_body_is_held_until_its_request_is_answered(tight):
    tight.engine.hold()
    asked = asyncio.create_task(tight.embed(shade(1)))
    await eventually(lambda: tight.engine.running == 1)
    assert tight.sample("bootleg_held_bytes") == len(shade(1))
    tight.engine.release()
    await asked
    assert tight.sample("bootleg_held_bytes") == 0


async def test_a_client_that_leaves_gives_its_bytes_back(tight):
    upload = Upload(tight, 60_000)
    await eventually(lambda: tight.sample("bootleg_held_bytes") == 60_000)
    upload.answer.cancel()
    await eventually(lambda: tight.sample("bootleg_held_bytes") == 0)


@pytest.mark.parametrize("way", **EACH_WAY)
async def test_every_route_is_bound_by_it(tight, way):
    upload = Upload(tight, BOUND)
    await eventually(lambda: tight.sample("bootleg_held_bytes") == BOUND)
    answer = await way.send(tight.client)
    assert answer.status_code == 503, answer.text
    assert "overloaded" in answer.text
    upload.finish.set()
    await upload.answer
    assert (await way.send(tight.client)).status_code == 200
