"""Processes that decode: the same pixels as threads give, and what it costs when one dies, hangs or grows."""

import asyncio
import os
import signal

import numpy as np
import pytest

from bootleg_bundle.errors import CorruptImageError, EmptyImageError, ImageFormatError, ImageLimitError
from bootleg_bundle.images import ImageLimits, decode
from bootleg_bundle.preprocess import PreprocessSpec, apply
from bootleg_service import decode_processes
from bootleg_service.decode_pool import DecodePool
from bootleg_service.errors import DecodeError, UnavailableError
from bootleg_service.metrics import Metrics
from bootleg_service.settings import DecodeSettings

from .pictures import huge_png, photo, truncated_jpeg
from .serving import EMBEDDINGS, error_of, eventually, serving

pytestmark = pytest.mark.anyio

SPEC = PreprocessSpec(height=32, width=48)


class Decoders:
    """A pool of processes, and a look inside."""

    def __init__(self, **chosen):
        self.metrics = Metrics()
        limits = ImageLimits(max_pixels=60_000_000)
        self.pool = DecodePool(limits, self.metrics, DecodeSettings(**{"processes": 1} | chosen))

    @property
    def idle(self):
        """Their numbers."""
        return [worker._process.pid for worker in self.pool._pool._workers._idle]

    def replaced(self, reason):
        return self.metrics.registry.get_sample_value("bootleg_decoders_replaced_total", {"reason": reason}) or 0

    async def assert_works(self):
        image = photo(7)
        np.testing.assert_array_equal(await self.pool.decode(image, SPEC), apply(SPEC, decode(image)))


@pytest.fixture
async def decoders():
    made = Decoders()
    await made.pool.start()
    yield made
    await made.pool.close()


@pytest.fixture
def stopped(decoders):
    """Its one process, held by the system: it will not answer."""
    (number,) = decoders.idle
    os.kill(number, signal.SIGSTOP)
    return number


async def test_it_gives_the_pixels_and_the_errors_that_threads_give(decoders):
    for seed, (width, height) in enumerate([(48, 32), (200, 90), (33, 301)]):
        image = photo(seed, width=width, height=height)
        for spec in (SPEC, PreprocessSpec(height=64, width=64, resample="bilinear")):
            np.testing.assert_array_equal(await decoders.pool.decode(image, spec), apply(spec, decode(image)))
    for bad, error, says in (
        (b"", EmptyImageError, "0 bytes"),
        (b"text", ImageFormatError, "no accepted image format"),
        (huge_png(), ImageLimitError, "limit"),
        (truncated_jpeg(), CorruptImageError, "truncated"),
    ):
        with pytest.raises(error, match=says):
            await decoders.pool.decode(bad, SPEC)
        with pytest.raises(error, match=says):
            decode(bad, ImageLimits(max_pixels=60_000_000))
    assert len(decoders.idle) == 1
    assert decoders.replaced("died") == decoders.replaced("deadline") == 0


async def test_a_process_killed_at_work_costs_nobody_an_answer_and_is_replaced(decoders, stopped):
    image = photo(1)
    task = asyncio.create_task(decoders.pool.decode(image, SPEC))
    await eventually(lambda: not decoders.idle)
    os.kill(stopped, signal.SIGKILL)
    np.testing.assert_array_equal(await task, apply(SPEC, decode(image)))
    assert decoders.replaced("died") == 1
    assert decoders.idle != [stopped]
    await decoders.assert_works()
    assert decoders.replaced("died") == 1


async def test_a_process_killed_while_idle_is_replaced_unnoticed(decoders):
    (number,) = decoders.idle
    os.kill(number, signal.SIGKILL)
    await decoders.assert_works()
    assert decoders.replaced("died") == 1
    assert len(decoders.idle) == 1


async def test_an_image_that_ends_two_processes_is_an_error_and_the_next_is_decoded(decoders, monkeypatch):
    genuine = decode_processes._Worker.decode

    async def deadly(worker, data, spec):
        worker._process.kill()
        return await genuine(worker, data, spec)

    with monkeypatch.context() as patched:
        patched.setattr(decode_processes._Worker, "decode", deadly)
        with pytest.raises(DecodeError, match="twice"):
            await decoders.pool.decode(photo(1), SPEC)
    assert decoders.replaced("died") == 2
    await decoders.assert_works()


async def test_a_decode_that_takes_too_long_is_ended_with_its_process():
    decoders = Decoders(seconds=0.5)
    await decoders.pool.start()
    (number,) = decoders.idle
    os.kill(number, signal.SIGSTOP)
    with pytest.raises(DecodeError, match=r"over 0\.5 s"):
        await decoders.pool.decode(photo(1), SPEC)
    assert decoders.replaced("deadline") == 1
    await decoders.pool.close()
    with pytest.raises(ProcessLookupError):
        os.kill(number, 0)


@pytest.mark.skipif(not os.path.exists("/proc/self/statm"), reason="the limit on address space is Linux's")  # noqa: PTH110
async def test_an_image_that_needs_more_memory_than_a_process_may_have_is_refused_and_the_process_lives():
    decoders = Decoders(memory_bytes=256 * 2**20, seconds=120)
    await decoders.pool.start()
    before = decoders.idle
    with pytest.raises(ImageLimitError, match="memory"):
        await decoders.pool.decode(photo(1, width=7000, height=7000), SPEC)
    await decoders.assert_works()
    assert decoders.idle == before
    await decoders.pool.close()


async def test_a_process_that_says_what_it_never_should_is_done_away_with(decoders, monkeypatch):
    genuine = decode_processes._Worker.answer
    with monkeypatch.context() as patched:
        patched.setattr(decode_processes._Worker, "answer", lambda worker, shape: genuine(worker, (7, *shape)))
        with pytest.raises(DecodeError):
            await decoders.pool.decode(photo(1), SPEC)
    assert decoders.replaced("died") == 2
    await decoders.assert_works()


async def test_the_server_s_secrets_are_not_given_to_a_decoder(monkeypatch):
    monkeypatch.setenv("BOOTLEG_REDIS_URL", "redis://:hunter2@db/0")
    decoders = Decoders()
    await decoders.pool.start()
    (number,) = decoders.idle
    with open(f"/proc/{number}/environ", "rb") as file:  # noqa: ASYNC230, PTH123
        environment = file.read()
    assert b"PATH=" in environment
    assert b"hunter2" not in environment
    await decoders.pool.close()


async def test_processes_that_cannot_be_started_are_said_at_the_start(monkeypatch):
    monkeypatch.setattr(decode_processes.sys, "executable", "/bin/false")
    with pytest.raises(UnavailableError, match="cannot be started"):
        await Decoders().pool.start()


async def test_the_end_waits_for_no_process_that_does_not_answer(decoders, stopped):
    task = asyncio.create_task(decoders.pool.decode(photo(1), SPEC))
    await eventually(lambda: not decoders.idle)
    await decoders.pool.close()
    with pytest.raises(UnavailableError, match="shutting down"):
        await task
    with pytest.raises(ProcessLookupError):
        os.kill(stopped, 0)


async def test_an_idle_process_that_does_not_end_by_itself_is_ended(decoders, stopped, monkeypatch):
    monkeypatch.setattr(decode_processes, "END_SECONDS", 0.2)
    await decoders.pool.close()
    with pytest.raises(ProcessLookupError):
        os.kill(stopped, 0)


async def test_signals_to_the_whole_group_leave_a_decoder_at_work_until_the_server_has_drained(decoders):
    (number,) = decoders.idle
    os.kill(number, signal.SIGTERM)
    os.kill(number, signal.SIGINT)
    await decoders.assert_works()
    assert decoders.idle == [number]


async def test_an_application_with_processes_answers_and_leaves_none_behind(engine):
    async with serving(engine, decode__processes=2) as served:
        numbers = [worker._process.pid for worker in served.service.pipeline._decode._pool._pool._workers._idle]
        assert len(numbers) == 2
        assert (await served.client.post(EMBEDDINGS, content=photo())).status_code == 200
        response = await served.client.post(EMBEDDINGS, content=truncated_jpeg())
        assert (response.status_code, error_of(response)["code"]) == (422, "corrupt_image")
    for number in numbers:
        with pytest.raises(ProcessLookupError):
            os.kill(number, 0)
