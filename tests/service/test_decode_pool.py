import asyncio
import threading

import numpy as np
import pytest

from bootleg_bundle.errors import CorruptImageError
from bootleg_bundle.images import ImageLimits
from bootleg_bundle.preprocess import PreprocessSpec
from bootleg_service import decode_pool
from bootleg_service.decode_pool import DecodePool
from bootleg_service.errors import OverloadedError
from bootleg_service.metrics import Metrics
from bootleg_service.settings import DecodeSettings

from .pictures import photo, shade, shade_pixels, truncated_jpeg
from .serving import eventually

pytestmark = pytest.mark.anyio

SPEC = PreprocessSpec(height=32, width=32)


def pool_of(max_seconds=10.0, **chosen):
    return DecodePool(ImageLimits(), Metrics(), DecodeSettings(**chosen), max_seconds=max_seconds)


@pytest.fixture
async def pool():
    pool = pool_of(threads=2, max_waiting=3)
    yield pool
    await pool.close()


@pytest.fixture
def gate(monkeypatch):
    """Hold every decode until the event is set."""
    gate = threading.Event()
    genuine = decode_pool.decode

    def decode(data, limits):
        assert gate.wait(60)
        return genuine(data, limits)

    monkeypatch.setattr(decode_pool, "decode", decode)
    yield gate
    gate.set()


async def test_an_image_becomes_the_input_of_the_encoder(pool):
    np.testing.assert_array_equal(await pool.decode(shade(300), SPEC), shade_pixels(300))
    assert (await pool.decode(photo(width=200, height=90), SPEC)).shape == (32, 32, 3)


async def test_each_image_is_prepared_as_its_model_wants_it(pool):
    small = PreprocessSpec(height=16, width=24)
    one, other = await asyncio.gather(pool.decode(photo(), SPEC), pool.decode(photo(), small))
    assert (one.shape, other.shape) == ((32, 32, 3), (16, 24, 3))


async def test_images_in_or_before_decode_are_counted_and_the_count_returns_to_zero(pool, gate):
    tasks = [asyncio.create_task(pool.decode(image, SPEC)) for image in (shade(1), truncated_jpeg(), shade(2))]
    await eventually(lambda: pool.arriving == 3)
    tasks[2].cancel()
    gate.set()
    _, bad, _ = await asyncio.gather(*tasks, return_exceptions=True)
    assert isinstance(bad, CorruptImageError)
    assert pool.arriving == 0


async def test_more_images_than_may_wait_are_refused_at_once(pool, gate):
    tasks = [asyncio.create_task(pool.decode(shade(number), SPEC)) for number in range(3)]
    await eventually(lambda: pool.arriving == 3)
    with pytest.raises(OverloadedError) as caught:
        await pool.decode(shade(9), SPEC)
    assert caught.value.retry_after is not None
    gate.set()
    assert len(await asyncio.gather(*tasks)) == 3
    np.testing.assert_array_equal(await pool.decode(shade(9), SPEC), shade_pixels(9))


async def test_the_event_loop_turns_while_an_image_is_decoded(pool, gate):
    task = asyncio.create_task(pool.decode(shade(1), SPEC))
    await eventually(lambda: pool.arriving == 1)
    turns = 0
    for _ in range(100):
        await asyncio.sleep(0)
        turns += 1
    assert turns == 100
    assert not task.done()
    gate.set()
    await task


async def test_images_that_could_not_be_decoded_in_time_are_refused_at_once(gate):
    pool = pool_of(max_seconds=0.01, threads=1, max_waiting=100)
    tasks = [asyncio.create_task(pool.decode(shade(number), SPEC)) for number in range(100)]
    refused, accepted = [], []
    await eventually(lambda: any(task.done() for task in tasks))
    for task in tasks:
        (refused if task.done() else accepted).append(task)
    assert accepted
    gate.set()
    await asyncio.gather(*accepted)
    for task in refused:
        with pytest.raises(OverloadedError, match=r"0\.01 s"):
            task.result()
    await pool.close()
