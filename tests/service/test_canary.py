import asyncio
import contextlib
import logging

from bootleg_service.batching.batcher import Batcher
from bootleg_service.canary import RETRY_SECONDS, Canary
from bootleg_service.errors import StartupError
from bootleg_service.metrics import Metrics
from bootleg_service.settings import BatchSettings
from tests.service.batching.virtual import run_virtually


class Golden:
    """A check that is off between two moments."""

    def __init__(self, off=(1e9, 1e9), error=StartupError):
        self.off, self.error, self.looks = off, error, []

    def __call__(self):
        now = asyncio.get_event_loop().time()
        self.looks.append(now)
        if self.off[0] <= now < self.off[1]:
            raise self.error("off")


class Thread:
    busy_since = None

    async def run(self, call, *arguments):
        await asyncio.sleep(0.01)
        return call(*arguments)

    def busy_seconds(self):
        return 0.0

    def close(self):
        pass


@contextlib.asynccontextmanager
async def watching(golden, every=60.0):
    metrics = Metrics()
    batcher = Batcher(None, BatchSettings(max_failures=1), metrics, lambda: 0, thread=Thread())
    canary = Canary(golden, batcher, metrics.of_model("m"), every=every)
    task = asyncio.create_task(canary.watch())
    try:
        yield canary, batcher, metrics
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


def test_a_good_model_is_looked_at_now_and_then():
    golden = Golden()

    async def main():
        async with watching(golden) as (canary, _, metrics):
            await asyncio.sleep(200)
            assert canary.passed
            assert metrics.registry.get_sample_value("bootleg_canary_passed", {"model": "m"}) == 1

    run_virtually(main())
    assert [round(look) for look in golden.looks] == [60, 120, 180]


def test_a_model_that_goes_wrong_is_found_out_and_so_is_its_recovery():
    for error in (StartupError, RuntimeError):
        logging.getLogger("bootleg.canary").disabled = True
        golden = Golden(off=(50, 100), error=error)

        async def main(golden=golden):
            async with watching(golden) as (canary, _, metrics):
                await asyncio.sleep(61)
                assert not canary.passed
                assert metrics.registry.get_sample_value("bootleg_canary_passed", {"model": "m"}) == 0
                await asyncio.sleep(50)
                assert canary.passed

        run_virtually(main())
        assert len(golden.looks) > 40 / RETRY_SECONDS, "looked at more often while something was wrong"


def test_a_batcher_that_gave_up_on_the_model_takes_images_again_once_the_model_works():
    async def main():
        async with watching(Golden()) as (_, batcher, _):
            batcher._failed_in_a_row = 1
            assert not batcher.healthy
            await asyncio.sleep(RETRY_SECONDS + 1)
            assert batcher.healthy

    run_virtually(main())
