import asyncio
import contextlib

import numpy as np
import pytest

from bootleg_bundle.errors import BootlegError
from bootleg_service.batching.batcher import Batcher
from bootleg_service.errors import EngineError, OverloadedError, UnavailableError
from bootleg_service.metrics import Metrics
from bootleg_service.settings import BatchSettings
from tests.service.fake_engine import embedding_of, patch_tokens_of
from tests.service.pictures import shade_pixels
from tests.service.serving import eventually

pytestmark = pytest.mark.anyio

PLUG = 999
LONG = 3600.0


@contextlib.asynccontextmanager
async def batching(engine, arriving=lambda: 0, **settings):
    batcher = Batcher(engine.run, BatchSettings(**settings), Metrics(), arriving)
    batcher.start()
    try:
        yield batcher
    finally:
        engine.release()
        await batcher.close()


def ask(batcher, number, output="embedding"):
    return asyncio.create_task(batcher.submit(shade_pixels(number), output))


async def plugged(engine, batcher):
    """Occupy the engine, so that what is asked next gathers."""
    engine.hold()
    plug = ask(batcher, PLUG)
    await eventually(lambda: engine.running == 1)
    return plug


async def settled(tasks):
    return await asyncio.gather(*tasks, return_exceptions=True)


async def test_images_that_gather_while_the_engine_is_busy_go_as_one_batch(engine):
    async with batching(engine, max_batch=8) as batcher:
        plug = await plugged(engine, batcher)
        tasks = [ask(batcher, number) for number in range(8)]
        await asyncio.sleep(0)
        engine.release()
        answers = await asyncio.gather(*tasks)
        await plug
    assert engine.batches == [1, 8]
    for number, answer in enumerate(answers):
        np.testing.assert_array_equal(answer, embedding_of(number))


async def test_no_batch_is_larger_than_allowed(engine):
    async with batching(engine, max_batch=3) as batcher:
        plug = await plugged(engine, batcher)
        tasks = [ask(batcher, number) for number in range(10)]
        await asyncio.sleep(0)
        engine.release()
        await asyncio.gather(plug, *tasks)
    assert engine.batches == [1, 3, 3, 3, 1]


async def test_requests_for_different_outputs_share_a_forward_pass(engine):
    async with batching(engine) as batcher:
        plug = await plugged(engine, batcher)
        tasks = [ask(batcher, 1), ask(batcher, 2, "patch_tokens")]
        await asyncio.sleep(0)
        engine.release()
        embedding, tokens = await asyncio.gather(*tasks)
        await plug
    assert engine.batches == [1, 2]
    np.testing.assert_array_equal(embedding, embedding_of(1))
    np.testing.assert_array_equal(tokens, patch_tokens_of(2))


async def test_a_lone_image_does_not_wait_for_others_when_nothing_is_being_decoded(engine):
    async with batching(engine, max_wait_seconds=LONG) as batcher, asyncio.timeout(30):
        np.testing.assert_array_equal(await ask(batcher, 5), embedding_of(5))


async def test_an_image_waits_for_those_still_in_decode(engine):
    in_decode = [1]
    async with batching(engine, arriving=lambda: in_decode[0], max_wait_seconds=LONG) as batcher:
        first = ask(batcher, 1)
        await asyncio.sleep(0.05)
        assert engine.batches == []
        in_decode[0] = 0
        await asyncio.gather(first, ask(batcher, 2))
    assert engine.batches == [2]


async def test_a_full_batch_goes_though_more_images_are_in_decode(engine):
    async with batching(engine, arriving=lambda: 5, max_batch=2, max_wait_seconds=LONG) as batcher:
        async with asyncio.timeout(30):
            await asyncio.gather(ask(batcher, 1), ask(batcher, 2))
    assert engine.batches == [2]


async def test_the_wait_for_images_in_decode_is_bounded(engine):
    async with batching(engine, arriving=lambda: 1, max_wait_seconds=0.01) as batcher, asyncio.timeout(30):
        await ask(batcher, 1)
    assert engine.batches == [1]


@pytest.mark.parametrize("size", [2, 3, 8])
async def test_one_image_that_the_model_fails_on_hurts_nobody_else_wherever_it_lies(engine, size):
    for position in range(size):
        engine.poison = {position}
        engine.batches.clear()
        async with batching(engine, max_batch=size) as batcher:
            plug = await plugged(engine, batcher)
            tasks = [ask(batcher, number) for number in range(size)]
            await asyncio.sleep(0)
            engine.release()
            answers = await settled(tasks)
            await plug
        assert engine.batches[1] == size
        assert isinstance(answers.pop(position), EngineError)
        for number, answer in zip((n for n in range(size) if n != position), answers, strict=True):
            np.testing.assert_array_equal(answer, embedding_of(number))


@pytest.mark.parametrize("largest", [1, 2, 3])
async def test_a_batch_that_is_too_large_for_the_model_is_answered_in_parts(engine, largest):
    engine.largest = largest
    async with batching(engine, max_batch=8) as batcher:
        plug = await plugged(engine, batcher)
        tasks = [ask(batcher, number) for number in range(8)]
        await asyncio.sleep(0)
        engine.release()
        answers = await asyncio.gather(*tasks)
        await plug
    for number, answer in enumerate(answers):
        np.testing.assert_array_equal(answer, embedding_of(number))


async def test_a_model_that_always_fails_fails_every_image_and_the_next_good_one_works(engine):
    async with batching(engine) as batcher:
        engine.broken = True
        answers = await settled([ask(batcher, number) for number in range(5)])
        assert [type(answer) for answer in answers] == [EngineError] * 5
        assert batcher.alive
        engine.broken = False
        np.testing.assert_array_equal(await ask(batcher, 1), embedding_of(1))


async def test_the_message_of_a_failure_says_nothing_of_what_the_runtime_said(engine):
    engine.broken = True
    async with batching(engine) as batcher:
        with pytest.raises(EngineError) as caught:
            await ask(batcher, 1)
    assert "CUDA" not in caught.value.message
    assert "/secret" not in caught.value.message


async def test_a_row_that_is_not_finite_is_an_error_of_its_image_alone(engine):
    engine.nan = {2}
    async with batching(engine, max_batch=4) as batcher:
        plug = await plugged(engine, batcher)
        tasks = [ask(batcher, number) for number in range(4)]
        await asyncio.sleep(0)
        engine.release()
        answers = await settled(tasks)
        await plug
    assert [isinstance(answer, EngineError) for answer in answers] == [False, False, True, False]
    assert engine.batches == [1, 4]


async def test_a_result_with_too_few_rows_is_never_handed_out(engine):
    engine.short = True
    async with batching(engine, max_batch=4) as batcher:
        answers = await settled([ask(batcher, number) for number in range(4)])
        assert [type(answer) for answer in answers] == [EngineError] * 4
        assert batcher.alive


async def test_a_result_of_a_type_that_is_no_number_fails_its_batch_and_not_the_service(engine):
    def run(pixels, outputs):
        if engine.broken:
            return {name: np.array([["?"]] * len(pixels)) for name in outputs}
        return engine.run(pixels, outputs)

    engine.broken = True
    batcher = Batcher(run, BatchSettings(), Metrics(), lambda: 0)
    batcher.start()
    async with asyncio.timeout(5):
        (answer,) = await settled([ask(batcher, 1)])
        assert isinstance(answer, EngineError)
        engine.broken = False
        np.testing.assert_array_equal(await ask(batcher, 2), embedding_of(2))
        await batcher.close()


async def test_a_full_queue_refuses_at_once_and_says_when_to_come_back(engine):
    async with batching(engine, max_batch=1, max_queue_items=3) as batcher:
        plug = await plugged(engine, batcher)
        tasks = [ask(batcher, number) for number in range(10)]
        await eventually(lambda: any(task.done() for task in tasks))
        refused = [task for task in tasks if task.done()]
        for task in refused:
            error = task.exception()
            assert isinstance(error, OverloadedError)
            assert error.retry_after is not None
        engine.release()
        answered = [answer for answer in await settled(tasks) if not isinstance(answer, Exception)]
        await plug
    assert len(answered) == 10 - len(refused) >= 3


async def test_the_queue_is_bounded_in_bytes_too(engine):
    one = shade_pixels(0).nbytes
    async with batching(engine, max_batch=8, max_queue_bytes=2 * one) as batcher:
        plug = await plugged(engine, batcher)
        tasks = [ask(batcher, number) for number in range(4)]
        await eventually(lambda: sum(task.done() for task in tasks) == 2)
        engine.release()
        answers = await settled([plug, *tasks])
    assert [type(answer) for answer in answers[3:]] == [OverloadedError] * 2
    assert not any(isinstance(answer, Exception) for answer in answers[:3])


async def test_the_room_of_answered_images_is_given_back(engine):
    one = shade_pixels(0).nbytes
    async with batching(engine, max_queue_bytes=2 * one) as batcher:
        for number in range(10):
            np.testing.assert_array_equal(await ask(batcher, number), embedding_of(number))


async def test_an_image_that_nobody_waits_for_any_more_never_reaches_the_model(engine):
    async with batching(engine, max_batch=8) as batcher:
        plug = await plugged(engine, batcher)
        left, stays = ask(batcher, 1), ask(batcher, 2)
        await asyncio.sleep(0)
        left.cancel()
        await asyncio.sleep(0)
        engine.release()
        np.testing.assert_array_equal(await stays, embedding_of(2))
        await plug
    assert engine.numbers == [PLUG, 2]


async def test_a_batch_prepared_ahead_is_not_run_when_all_its_images_were_given_up(engine):
    async with batching(engine, max_batch=2) as batcher:
        plug = await plugged(engine, batcher)
        left = [ask(batcher, 1), ask(batcher, 2)]
        await asyncio.sleep(0)
        assert len(batcher._queue) == 2
        await eventually(lambda: not batcher._queue)  # taken from the queue and stacked
        for task in left:
            task.cancel()
        await asyncio.sleep(0)
        engine.release()
        await plug
        await ask(batcher, 3)
    assert engine.numbers == [PLUG, 3]


async def test_closing_answers_what_is_queued_and_refuses_what_comes_after(engine):
    batcher = Batcher(engine.run, BatchSettings(max_batch=4), Metrics(), lambda: 0)
    batcher.start()
    plug = await plugged(engine, batcher)
    tasks = [ask(batcher, number) for number in range(20)]
    await asyncio.sleep(0)
    closing = asyncio.create_task(batcher.close())
    await asyncio.sleep(0)
    with pytest.raises(UnavailableError):
        await ask(batcher, 100)
    engine.release()
    async with asyncio.timeout(30):
        await closing
    assert all(task.done() for task in [plug, *tasks])
    for number, task in enumerate(tasks):
        np.testing.assert_array_equal(task.result(), embedding_of(number))


async def test_closing_leaves_no_future_pending_when_the_model_fails_meanwhile(engine):
    batcher = Batcher(engine.run, BatchSettings(max_batch=4), Metrics(), lambda: 0)
    batcher.start()
    plug = await plugged(engine, batcher)
    tasks = [plug, *(ask(batcher, number) for number in range(9))]
    await asyncio.sleep(0)
    engine.broken = True
    closing = asyncio.create_task(batcher.close())
    engine.release()
    async with asyncio.timeout(30):
        await closing
        answers = await settled(tasks)
    assert all(isinstance(answer, BootlegError) for answer in answers)


async def test_an_idle_batcher_closes(engine):
    batcher = Batcher(engine.run, BatchSettings(), Metrics(), lambda: 0)
    batcher.start()
    await asyncio.sleep(0)
    async with asyncio.timeout(30):
        await batcher.close()
    assert not batcher.alive


async def test_random_arrivals_cancellations_and_faults_leave_every_image_with_one_right_answer(engine):
    rng = np.random.default_rng(0)
    engine.poison = set(range(0, 300, 17))
    engine.nan = set(range(5, 300, 23))
    async with batching(engine, max_batch=5, max_queue_items=40) as batcher:
        tasks = []
        for number in range(300):
            tasks.append(ask(batcher, number))
            if rng.random() < 0.2:
                rng.choice(np.array(tasks, dtype=object)).cancel()
            if rng.random() < 0.3:
                await asyncio.sleep(0.001 * rng.random())
        async with asyncio.timeout(60):
            answers = await settled(tasks)
        assert batcher.alive
        assert len(batcher._queue) == 0
        assert batcher._queue.bytes == 0
    for number, answer in enumerate(answers):
        if isinstance(answer, EngineError):
            assert number in engine.poison | engine.nan
        elif not isinstance(answer, (asyncio.CancelledError, OverloadedError)):
            np.testing.assert_array_equal(answer, embedding_of(number))
    assert max(engine.batches) <= 5


async def test_a_row_of_another_width_is_never_handed_out(engine):
    narrow = []

    def run(pixels, outputs):
        return {name: rows[:, :-1] if narrow else rows for name, rows in engine.run(pixels, outputs).items()}

    shapes = {"embedding": embedding_of(1).shape}
    batcher = Batcher(run, BatchSettings(max_batch=4), Metrics(), lambda: 0, row_shapes=shapes)
    batcher.start()
    narrow.append(True)
    answers = await settled([ask(batcher, number) for number in range(4)])
    assert [type(answer) for answer in answers] == [EngineError] * 4
    narrow.clear()
    np.testing.assert_array_equal(await ask(batcher, 1), embedding_of(1))
    await batcher.close()
