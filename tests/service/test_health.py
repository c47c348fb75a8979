"""Liveness and readiness: what can be wrong is seen as a reason, and refused quickly where that is promised."""

import asyncio
import logging

import pytest

from bootleg_service.batching.batcher import Batcher
from bootleg_service.batching.saturation import PAUSE_SECONDS, Saturation
from bootleg_service.canary import Canary
from bootleg_service.errors import UnavailableError
from bootleg_service.metrics import Metrics
from bootleg_service.settings import BatchSettings
from bootleg_service.watchdog import LOOK_SECONDS, Watchdog
from tests.service.batching.virtual import run_virtually

from .fake_engine import FakeEngine
from .pictures import shade, shade_pixels
from .serving import EMBEDDINGS, error_of, eventually, serving

pytestmark = pytest.mark.anyio


async def health(served, path):
    answer = await served.client.get(path)
    body = answer.json()
    assert (answer.status_code == 503) == bool(body.get("reasons"))
    return answer.status_code, body["status"], [reason["code"] for reason in body.get("reasons", [])]


async def test_a_model_call_that_does_not_end_turns_liveness_red_and_new_images_are_refused_at_once():
    async with serving(FakeEngine(), batch__stall_seconds=0.2) as served:
        (await served.embed(shade(9))).raise_for_status()
        served.engine.hold()
        stuck = asyncio.create_task(served.embed(shade(1)))
        await eventually(lambda: served.service.batcher.stalled)
        assert await health(served, "/health/live") == (503, "stalled", ["stalled"])
        assert await health(served, "/health/ready") == (503, "not ready", ["stalled"])
        assert (await served.client.get("/v2/health/live")).status_code == 503
        assert (await served.client.get("/.well-known/live")).status_code == 503
        refused = await served.embed(shade(2))
        assert (refused.status_code, error_of(refused)["code"]) == (503, "unavailable")
        assert "no progress" in error_of(refused)["message"]
        assert int(refused.headers["Retry-After"]) > 0
        assert served.sample("bootleg_decoding") == 0, "it was refused before it cost a decode"
        assert (await served.embed(shade(9))).headers["X-Cache"] == "hit", "what is cached needs no model"
        await eventually(lambda: served.sample("bootleg_model_stalled", model="fake") == 1)
        served.engine.release()
        assert (await stuck).status_code == 200
        assert await health(served, "/health/live") == (200, "live", [])
        assert (await served.embed(shade(2))).status_code == 200
        await eventually(lambda: served.sample("bootleg_model_stalled", model="fake") == 0)


def test_images_that_wait_while_nothing_is_computed_are_a_stall_too():
    async def main():
        engine = FakeEngine()
        batcher = Batcher(engine.run, BatchSettings(stall_seconds=10), Metrics(), lambda: 0)
        waiting = asyncio.create_task(batcher.submit(shade_pixels(1), "embedding"))  # never started: it makes no batch
        await asyncio.sleep(9)
        assert not batcher.stalled
        await asyncio.sleep(2)
        assert batcher.stalled
        with pytest.raises(UnavailableError, match="no progress"):
            await batcher.submit(shade_pixels(2), "embedding")
        waiting.cancel()
        await asyncio.gather(waiting, return_exceptions=True)
        batcher.thread.close()

    run_virtually(main())


def test_the_watchdog_says_once_that_a_model_is_stuck_and_once_that_it_is_not(caplog):
    class Stuck:
        stalled = False

    async def main():
        stuck, metrics = Stuck(), Metrics()
        watching = asyncio.create_task(Watchdog(stuck, metrics, model="m").watch())
        for stalled in (False, True, True, False):
            stuck.stalled = stalled
            await asyncio.sleep(2 * LOOK_SECONDS)
            assert metrics.registry.get_sample_value("bootleg_model_stalled", {"model": "m"}) == stalled
        watching.cancel()

    with caplog.at_level(logging.WARNING, "bootleg.watchdog"):
        run_virtually(main())
    assert [record.levelname for record in caplog.records] == ["CRITICAL", "WARNING"]


async def test_each_fault_of_a_model_is_a_reason_of_its_own(served):
    assert await health(served, "/health/ready") == (200, "ready", [])
    served.service.canary.passed = False
    assert await health(served, "/health/ready") == (503, "not ready", ["canary_failed"])
    served.service.batcher._failed_in_a_row = 10**6
    assert await health(served, "/health/ready") == (503, "not ready", ["canary_failed", "model_failing"])
    served.app.state.models.drain()
    assert (await health(served, "/health/ready"))[2] == ["draining", "canary_failed", "model_failing"]
    assert await health(served, "/health/live") == (200, "live", [])
    assert await health(served, "/health/started") == (200, "started", [])
    assert "golden images" in (await served.client.get("/v2/health/ready")).json()["error"]


async def test_a_model_that_refuses_images_for_long_is_not_ready_until_the_load_has_passed(engine):
    async with serving(
        engine, lifecycle__saturated_seconds=0.05, decode__max_waiting=1, cache__memory_bytes=0
    ) as served:
        engine.hold()
        for _ in range(2):
            served.service.batcher.saturation.refused()
            await asyncio.sleep(0.06)
        assert await health(served, "/health/ready") == (503, "not ready", ["saturated"])
        assert await health(served, "/health/live") == (200, "live", [])


def test_saturation_lasts_from_the_first_refusal_to_a_pause_after_the_last():
    async def main():
        saturation = Saturation()
        assert saturation.seconds == 0
        for _ in range(10):
            saturation.refused()
            await asyncio.sleep(PAUSE_SECONDS - 1)
        assert saturation.seconds == pytest.approx(10 * (PAUSE_SECONDS - 1))
        await asyncio.sleep(1.5)
        assert saturation.seconds == 0
        saturation.refused()
        await asyncio.sleep(1)
        assert saturation.seconds == pytest.approx(1), "a new run begins anew"

    run_virtually(main())


async def test_refusals_of_the_queue_and_of_the_decoders_count_as_saturation(engine):
    async with serving(engine, batch__max_queue_items=1, batch__max_batch=1, cache__memory_bytes=0) as served:
        engine.hold()
        tasks = [asyncio.create_task(served.embed(shade(number))) for number in range(8)]
        await eventually(lambda: any(task.done() for task in tasks))
        assert served.service.batcher.saturation.seconds > 0
        engine.release()
        assert {answer.status_code for answer in await asyncio.gather(*tasks)} == {200, 503}
    async with serving(FakeEngine(), decode__max_waiting=1, cache__memory_bytes=0) as served:
        await asyncio.gather(*(served.client.post(EMBEDDINGS, content=shade(number)) for number in range(8)))
        assert served.service.batcher.saturation.seconds > 0


def test_a_canary_that_meets_a_device_that_is_gone_ends_the_process():
    ends = []

    class Thread:
        busy_since = None

        async def run(self, call):
            return call()

        def busy_seconds(self):
            return 0.0

    def check():
        raise RuntimeError("CUDA failure 700: an illegal memory access was encountered")

    async def main():
        batcher = Batcher(None, BatchSettings(), Metrics(), lambda: 0, thread=Thread())
        canary = Canary(check, batcher, Metrics().of_model("m"), every=60, on_fatal=ends.append)
        await canary.look()
        assert not canary.passed

    logging.getLogger("bootleg.canary").disabled = True
    run_virtually(main())
    assert len(ends) == 1
