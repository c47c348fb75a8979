import asyncio

import numpy as np
import pytest

from bootleg_bundle.errors import CorruptImageError
from bootleg_service.batching.ticket import Ticket
from bootleg_service.errors import DeadlineError, EngineError, UnavailableError
from bootleg_service.pipeline import ImageFailure
from bootleg_service.respond import settle

from .fake_engine import embedding_of, patch_tokens_of
from .pictures import shade, truncated_jpeg
from .serving import eventually, serving

pytestmark = pytest.mark.anyio

PLUG = 999


def ask(served, *numbers, output="embedding", **told):
    return asyncio.create_task(answers_to(served, [shade(number) for number in numbers], output, **told))


async def answers_to(served, images, output, *, within=None, lane="interactive"):
    """As a route asks: all or nothing."""
    seconds = within or served.service.settings.limits.request_seconds
    deadline = asyncio.get_running_loop().time() + seconds
    found = await served.service.pipeline.answer_each(images, output, Ticket("", lane, deadline))
    settle(found, "images")
    return found


async def plugged(served):
    served.engine.hold()
    plug = ask(served, PLUG)
    await eventually(lambda: served.engine.running == 1)
    return plug


class Marked:
    """An answer made of the patch tokens."""

    kind = "marked"
    source = "patch_tokens"

    async def make(self, data, source, ticket):
        return source[0, 0] + 1


def queued(served):
    return served.sample("bootleg_queue_items")


async def test_answers_come_in_the_order_of_the_images(served):
    answers = await ask(served, 7, 3, 5)
    for number, answer in zip((7, 3, 5), answers, strict=True):
        np.testing.assert_array_equal(answer.value, embedding_of(number))


async def test_patch_tokens_are_kept_in_float16(served):
    (answer,) = await ask(served, 3, output="patch_tokens")
    assert answer.value.dtype == np.float16
    np.testing.assert_array_equal(answer.value, patch_tokens_of(3))


async def test_two_outputs_of_one_image_are_never_mistaken_for_each_other(served):
    (embedding,) = await ask(served, 3)
    (tokens,) = await ask(served, 3, output="patch_tokens")
    assert not tokens.hit
    assert tokens.value.shape != embedding.value.shape


async def test_a_hundred_equal_images_at_once_are_computed_once(served):
    served.engine.hold()
    tasks = [ask(served, 4) for _ in range(100)]
    await eventually(lambda: served.engine.running == 1)
    served.engine.release()
    for (answer,) in await asyncio.gather(*tasks):
        np.testing.assert_array_equal(answer.value, embedding_of(4))
    assert served.engine.numbers == [4]


async def test_equal_images_of_one_request_are_computed_once(served):
    answers = await ask(served, 4, 4, 4)
    assert len(answers) == 3
    assert served.engine.numbers == [4]


async def test_the_first_to_ask_may_leave_without_harm_to_the_others(served):
    served.engine.hold()
    tasks = [ask(served, 4) for _ in range(5)]
    await eventually(lambda: served.engine.running == 1)
    tasks[0].cancel()
    await asyncio.sleep(0.01)
    served.engine.release()
    for (answer,) in await asyncio.gather(*tasks[1:]):
        np.testing.assert_array_equal(answer.value, embedding_of(4))
    assert tasks[0].cancelled()
    assert served.engine.numbers == [4]


async def test_an_image_that_all_have_left_is_not_computed(served):
    plug = await plugged(served)
    tasks = [ask(served, 4) for _ in range(3)]
    await eventually(lambda: queued(served) == 1)
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    await asyncio.sleep(0.01)
    served.engine.release()
    await plug
    await ask(served, 5)
    assert served.engine.numbers == [PLUG, 5]


@pytest.mark.parametrize("turns", range(8))
async def test_whoever_asks_again_while_an_abandoned_computation_ends_is_still_computed_once(served, turns):
    plug = await plugged(served)
    abandoned = ask(served, 4)
    await eventually(lambda: queued(served) == 1)
    abandoned.cancel()
    for _ in range(turns):
        await asyncio.sleep(0)
    again = ask(served, 4)
    await eventually(lambda: queued(served) == 2 or abandoned.done())
    await asyncio.sleep(0.02)
    later = ask(served, 4)
    await asyncio.sleep(0.02)
    served.engine.release()
    await asyncio.gather(plug, again, later)
    assert served.engine.numbers == [PLUG, 4]


async def test_a_repeated_image_comes_from_the_cache(served):
    (first,) = await ask(served, 4)
    (second,) = await ask(served, 4)
    assert (first.hit, second.hit) == (False, True)
    np.testing.assert_array_equal(first.value, second.value)
    assert served.engine.numbers == [4]


async def test_the_image_at_fault_is_named_and_the_others_are_kept(served):
    images = [shade(1), truncated_jpeg(), shade(2)]
    with pytest.raises(ImageFailure) as caught:
        await answers_to(served, images, "embedding")
    assert caught.value.param == "images[1]"
    assert isinstance(caught.value.error, CorruptImageError)
    (first,), (third,) = await ask(served, 1), await ask(served, 2)
    assert first.hit
    assert third.hit


async def test_an_answer_that_is_not_finite_is_an_engine_error_and_is_not_kept(served):
    served.engine.nan = {4}
    with pytest.raises(ImageFailure) as caught:
        await ask(served, 4)
    assert isinstance(caught.value.error, EngineError)
    served.engine.nan = set()
    (answer,) = await ask(served, 4)
    assert not answer.hit


async def test_patch_tokens_that_overflow_float16_are_an_engine_error_and_not_infinities(served, monkeypatch):
    genuine = served.engine.run

    def run(pixels, outputs):
        return {name: array * np.float32(1e6) for name, array in genuine(pixels, outputs).items()}

    monkeypatch.setattr(served.service.batcher, "_run", run)
    with pytest.raises(ImageFailure) as caught:
        await ask(served, 4, output="patch_tokens")
    assert isinstance(caught.value.error, EngineError)


async def test_an_error_is_not_kept(served):
    served.engine.broken = True
    with pytest.raises(ImageFailure):
        await ask(served, 4)
    served.engine.broken = False
    (answer,) = await ask(served, 4)
    np.testing.assert_array_equal(answer.value, embedding_of(4))


async def test_a_request_past_its_deadline_ends_though_the_model_is_stuck_and_its_image_is_dropped(engine):
    async with serving(engine, limits__request_seconds=0.1) as served:
        engine.hold()
        stuck = ask(served, PLUG)
        await eventually(lambda: engine.running == 1)
        waiting = ask(served, 4)
        for task in (stuck, waiting):
            with pytest.raises(DeadlineError):
                await task
        assert engine.running == 1
        engine.release()
        batcher = served.service.batcher
        await eventually(lambda: not batcher._executing and not batcher._queue)
        await ask(served, 5)
    assert engine.numbers == [PLUG, 5]


@pytest.mark.parametrize("shared", ["embedding", "derived"])
async def test_who_joins_a_computation_with_more_time_gets_its_answer_after_the_first_ones_time_is_up(served, shared):
    output = Marked() if shared == "derived" else shared
    plug = await plugged(served)
    first = ask(served, 4, output=output, within=0.3)
    await eventually(lambda: queued(served) == 1)
    second = ask(served, 4, output=output, within=100)
    with pytest.raises(DeadlineError):
        await first
    await asyncio.sleep(0.05)
    served.engine.release()
    await asyncio.gather(plug, second)
    assert served.engine.numbers == [PLUG, 4]


async def test_the_last_to_leave_a_shared_computation_ends_it_whoever_was_first(served):
    plug = await plugged(served)
    tasks = [ask(served, 4, within=0.2), ask(served, 4, lane="bulk"), ask(served, 4)]
    await eventually(lambda: queued(served) == 1)
    with pytest.raises(DeadlineError):
        await tasks[0]
    for task in tasks[1:]:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    await eventually(lambda: not [f for f in served.service.pipeline._flights.values() if not f.standing._claims])
    served.engine.release()
    await plug
    await ask(served, 5)
    assert served.engine.numbers == [PLUG, 5]


@pytest.mark.parametrize("shared", ["embedding", "derived"])
async def test_a_bulk_computation_that_an_urgent_request_joins_goes_before_the_rest_of_bulk(engine, shared):
    output = Marked() if shared == "derived" else shared
    async with serving(engine, batch__max_batch=1) as served:
        plug = await plugged(served)
        tasks = [ask(served, number, lane="bulk", output=output) for number in (1, 2, 3, 4)]
        await eventually(lambda: queued(served) == 3)  # and one is prepared
        tasks.append(ask(served, 4, output=output))
        await asyncio.sleep(0.02)
        engine.release()
        await asyncio.gather(plug, *tasks)
    assert engine.numbers.index(4) == 2


async def test_who_comes_before_a_failed_computation_is_forgotten_begins_another(served, monkeypatch):
    monkeypatch.setattr(served.service.pipeline, "_land", lambda *_: None)  # it happens a turn of the loop later
    served.engine.broken = True
    with pytest.raises(ImageFailure):
        await ask(served, 4)
    served.engine.broken = False
    (answer,) = await ask(served, 4)
    np.testing.assert_array_equal(answer.value, embedding_of(4))


async def test_closing_waits_for_what_is_in_flight_and_refuses_what_comes_after(served):
    served.engine.hold()
    task = ask(served, 4)
    await eventually(lambda: served.engine.running == 1)
    closing = asyncio.create_task(served.service.pipeline.close())
    await asyncio.sleep(0)
    with pytest.raises(UnavailableError):
        await ask(served, 5)
    assert not closing.done()
    served.engine.release()
    await closing
    assert len(await task) == 1


async def test_nothing_is_left_in_flight_after_answers_errors_and_cancellations(served):
    served.engine.poison = {3}
    tasks = [ask(served, number % 10) for number in range(50)]
    await asyncio.sleep(0)
    for task in tasks[::7]:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    await eventually(lambda: not served.service.pipeline._flights)
    assert served.sample("bootleg_decoding") == 0
    assert queued(served) == 0
