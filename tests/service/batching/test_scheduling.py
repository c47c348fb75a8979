"""The scheduler against random arrivals, departures, failures and deadlines, on a virtual clock."""

import asyncio
import contextlib
import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bootleg_service.batching.batcher import Batcher
from bootleg_service.batching.ceiling import batch_sizes
from bootleg_service.batching.ticket import Standing, Ticket
from bootleg_service.errors import DeadlineError, EngineError, OverloadedError, UnavailableError
from bootleg_service.metrics import Metrics
from bootleg_service.settings import BatchSettings
from tests.service.serving import sample

from .virtual import VirtualThread, run_virtually

PER_IMAGE, FIXED = 0.01, 0.02
MAX_WAIT = 0.004


class Model:
    """Answers an image with its number; fails as told."""

    def __init__(self, poison=(), fits=10**9, broken=False):
        self.poison, self.fits, self.broken = set(poison), fits, broken
        self.batches: list[list[int]] = []

    def __call__(self, pixels, outputs):
        numbers = [int(image[0, 0, 0]) + 256 * int(image[0, 0, 1]) for image in pixels]
        self.batches.append(numbers)
        if len(numbers) > self.fits:
            raise RuntimeError("BFCArena: Failed to allocate memory for requested buffer")
        if self.broken or self.poison.intersection(numbers):
            raise RuntimeError("no")
        return {name: np.array(numbers, np.float32)[:, None] for name in outputs}


def picture(number):
    image = np.zeros((2, 2, 3), np.uint8)
    image[0, 0, 0], image[0, 0, 1] = number % 256, number // 256
    return image


@contextlib.asynccontextmanager
async def scheduling(model, *, arriving=lambda: 0, sizes=(), on_fatal=None, fixed=FIXED, **chosen):
    thread = VirtualThread(PER_IMAGE, fixed)
    bounds = BatchSettings(**{"max_batch": 4, "max_wait_seconds": MAX_WAIT, **chosen})
    batcher = Batcher(model, bounds, Metrics(), arriving, sizes=sizes, thread=thread, on_fatal=on_fatal)
    batcher.start()
    try:
        yield batcher
    finally:
        await batcher.close()


def counted(batcher, name, **labels):
    return sample(batcher._metrics, name, **labels)


def ask(batcher, number, client="", lane="interactive", within=None):
    now = asyncio.get_running_loop().time()
    ticket = Ticket(client, lane, None if within is None else now + within)
    return asyncio.create_task(batcher.submit(picture(number), "embedding", ticket))


ARRIVAL = st.tuples(
    st.floats(0, 0.05),  # seconds after the one before
    st.sampled_from(["a", "b", "c"]),
    st.sampled_from(["interactive", "bulk"]),
    st.none() | st.floats(0.01, 1.0),  # deadline
    st.none() | st.floats(0, 0.3),  # leaves after
    st.booleans(),  # poison, with the next
    st.none() | st.tuples(st.floats(0, 0.2), st.sampled_from(["interactive", "bulk"]), st.floats(0.01, 2.0)),  # joined
)


async def play(arrivals, model, sizes):
    """Let the images come, and some leave; what each got, when who left, and when the model ran."""
    outcomes, gone = {}, {}

    async def join(standing, after, lane, within):
        await asyncio.sleep(after)
        standing.join(Ticket("late", lane, asyncio.get_running_loop().time() + within))

    async def one(batcher, number, arrival):
        _, client, lane, within, leaves, _, joined = arrival
        standing, now = Standing(), asyncio.get_running_loop().time()
        standing.join(Ticket(client, lane, None if within is None else now + within))
        task = asyncio.create_task(batcher.submit(picture(number), "embedding", standing))
        if joined is not None:
            joining = asyncio.create_task(join(standing, *joined))
            task.add_done_callback(lambda _: joining.cancel())
        if leaves is not None:
            done, _ = await asyncio.wait({task}, timeout=leaves)
            if not done:
                gone[number] = asyncio.get_running_loop().time()
                task.cancel()
        assert number not in outcomes
        outcomes[number] = (await asyncio.gather(task, return_exceptions=True))[0]
        if isinstance(outcomes[number], DeadlineError):
            assert standing.deadline <= asyncio.get_running_loop().time(), "it expired before the last who waited"

    async with scheduling(model, sizes=sizes, max_queue_items=20, max_failures=10**6) as batcher:
        tasks = []
        for number, arrival in enumerate(arrivals, start=1):
            await asyncio.sleep(arrival[0])
            assert len(batcher._queue) <= 20
            tasks.append(asyncio.create_task(one(batcher, number, arrival)))
        await asyncio.gather(*tasks)
        await asyncio.sleep(1)  # the last may have left the moment before
        assert len(batcher._queue) == 0
        assert batcher._queue.bytes == 0
        return outcomes, gone, batcher.thread.calls


def is_right(number, outcome, arrival, gone, poison):
    if isinstance(outcome, asyncio.CancelledError):
        return number in gone
    if isinstance(outcome, EngineError):
        return number in poison
    if isinstance(outcome, DeadlineError):
        return arrival[3] is not None
    if isinstance(outcome, OverloadedError):
        return arrival[3] is not None or number > 20
    return outcome == number and number not in poison


@settings(max_examples=150, deadline=None)
@given(st.lists(ARRIVAL, min_size=1, max_size=60), st.sampled_from([((), 1), ((), 3), ((1, 4), 2), ((2, 3), 2)]))
def test_whatever_comes_every_image_gets_exactly_one_right_answer_or_error(arrivals, device):
    sizes, fits = device
    poison = {n for n, arrival in enumerate(arrivals, start=1) if arrival[5] and n % 5 == 0}
    model = Model(poison, fits)
    outcomes, gone, calls = run_virtually(play(arrivals, model, sizes))
    assert set(outcomes) == set(range(1, len(arrivals) + 1))
    for number, outcome in outcomes.items():
        assert is_right(number, outcome, arrivals[number - 1], gone, poison), (number, outcome)
    assert all(len(batch) <= 4 for batch in model.batches)
    assert all(begin >= end for (_, end), (begin, _) in itertools.pairwise(calls))
    for batch, (begin, _) in zip(model.batches, calls, strict=True):
        assert [n for n in batch if n and gone.get(n, begin + 1) > begin], "a batch that nobody waited for was run"


def test_a_burst_of_one_client_does_not_delay_another():
    model = Model()

    async def main():
        async with scheduling(model, max_queue_items=20_000) as batcher:
            flood = [ask(batcher, n, client="greedy") for n in range(1000)]
            await asyncio.sleep(0.1)
            begun = asyncio.get_running_loop().time()
            await ask(batcher, 5000, client="modest")
            took = asyncio.get_running_loop().time() - begun
            for task in flood:
                task.cancel()
            await asyncio.gather(*flood, return_exceptions=True)
            return took

    assert run_virtually(main()) <= 3 * (4 * PER_IMAGE + FIXED)  # the batch that runs, the one prepared, and its own


def test_interactive_images_go_before_bulk_and_bulk_does_not_starve():
    model = Model()

    async def main():
        async with scheduling(model, max_queue_items=20_000, bulk_share=0.25, bulk_patience_seconds=0.2) as batcher:
            bulk = [ask(batcher, n, lane="bulk") for n in range(1000, 1400)]
            quick = [ask(batcher, n) for n in range(400)]
            await asyncio.gather(*bulk, *quick)

    run_virtually(main())
    order = [n for batch in model.batches for n in batch]
    assert all(n < 1000 for n in order[4:12]), "interactive first"  # the first batch was taken before any came
    during = order[: order.index(399) + 1]
    share = sum(n >= 1000 for n in during) / len(during)
    assert 0.15 <= share <= 0.3, "then a fixed share for those that waited"


def test_the_time_a_queue_takes_is_foretold_from_the_batches_before():
    async def main():
        async with scheduling(Model(), max_queue_items=1000) as batcher:
            for size in (1, 2, 3, 4, 1, 4):
                await asyncio.gather(*[ask(batcher, n) for n in range(size)])
            assert batcher._latency.per_image == pytest.approx(PER_IMAGE, rel=0.01)
            assert batcher._latency.fixed == pytest.approx(FIXED, rel=0.01)
            tasks = [ask(batcher, n) for n in range(40)]
            await asyncio.sleep(0)
            await asyncio.sleep(0)
            foretold = batcher.expected_wait()
            begun = asyncio.get_running_loop().time()
            await ask(batcher, 41)
            await asyncio.gather(*tasks)
            return foretold, asyncio.get_running_loop().time() - begun

    foretold, took = run_virtually(main())
    assert foretold == pytest.approx(took, rel=0.15)


def test_an_image_whose_answer_would_come_too_late_is_refused_at_once_with_when_to_come_back():
    async def main():
        async with scheduling(Model(), max_queue_items=1000) as batcher:
            await asyncio.gather(*[ask(batcher, n) for n in range(20)])
            queued = [ask(batcher, n) for n in range(100)]
            await asyncio.sleep(0.001)
            begun = asyncio.get_running_loop().time()
            with pytest.raises(OverloadedError, match="would take about") as refused:
                await ask(batcher, 500, within=0.3)
            assert asyncio.get_running_loop().time() == begun
            assert 0.5 < refused.value.retry_after < 3
            assert counted(batcher, "bootleg_rejected_total", reason="deadline") == 1
            await asyncio.gather(*queued)

    run_virtually(main())


def test_an_idle_device_is_tried_though_it_was_slow_the_last_time():
    """A pause of the machine, once, must not close the service: only a batch can tell that it is over."""
    model = Model()

    async def main():
        async with scheduling(model) as batcher:
            batcher.thread.fixed = 60.0
            assert await ask(batcher, 1) == 1
            batcher.thread.fixed = FIXED
            assert batcher.expected_wait() > 30
            assert await ask(batcher, 2, within=10) == 2

    run_virtually(main())


def test_a_full_queue_makes_room_for_who_has_little_in_it_and_for_the_urgent():
    async def main():
        async with scheduling(Model(), max_queue_items=8) as batcher:
            plug = ask(batcher, 0)
            await asyncio.sleep(0.001)
            greedy = [ask(batcher, n, client="greedy", lane="bulk") for n in range(1, 5)]
            await asyncio.sleep(0.001)  # these four are the batch that is prepared
            greedy += [ask(batcher, n, client="greedy", lane="bulk") for n in range(5, 15)]
            await asyncio.sleep(0.001)
            assert await ask(batcher, 100, client="modest") == 100
            outcomes = await asyncio.gather(plug, *greedy, return_exceptions=True)
            assert sum(isinstance(outcome, OverloadedError) for outcome in outcomes) == 3
            assert counted(batcher, "bootleg_rejected_total", reason="displaced") == 1
            assert counted(batcher, "bootleg_rejected_total", reason="queue") == 2

    run_virtually(main())


def test_a_bulk_image_that_somebody_urgent_waits_for_too_goes_first_and_lives_as_long():
    model = Model()

    async def main():
        async with scheduling(model, max_batch=1) as batcher:
            plug = ask(batcher, 0)
            await asyncio.sleep(0.001)
            bulk = [ask(batcher, n, lane="bulk") for n in range(1, 8)]
            standing, now = Standing(), asyncio.get_running_loop().time()
            standing.join(Ticket("", "bulk", now + 1))
            shared = asyncio.create_task(batcher.submit(picture(50), "embedding", standing))
            await asyncio.sleep(0.001)
            standing.join(Ticket("", "interactive", now + 100))
            await asyncio.gather(plug, shared, *bulk)

    run_virtually(main())
    order = [n for batch in model.batches for n in batch]
    assert order.index(50) == 2, "after the one that ran and the one that was prepared"


def test_an_image_past_its_deadline_is_never_computed():
    model = Model()

    async def main():
        async with scheduling(model) as batcher:
            first = ask(batcher, 0)
            await asyncio.sleep(0.001)
            late = ask(batcher, 1, within=0.025)  # the model is thought faster than it is, and takes it
            with pytest.raises(DeadlineError, match="deadline"):
                await late
            await first
            assert counted(batcher, "bootleg_dropped_total", reason="deadline") == 1

    run_virtually(main())
    assert model.batches == [[0]]


def test_a_batch_that_does_not_fit_the_memory_is_halved_and_the_next_ones_are_smaller():
    model = Model(fits=2)

    async def main():
        async with scheduling(model, max_batch=8) as batcher:
            plug = ask(batcher, 0)
            await asyncio.sleep(0.001)
            await asyncio.gather(plug, *[ask(batcher, n) for n in range(1, 25)])
            first = len(model.batches)
            await asyncio.gather(*[ask(batcher, n) for n in range(30, 50)])
            return first

    first = run_virtually(main())
    assert max(len(batch) for batch in model.batches[:first]) == 8
    assert max(len(batch) for batch in model.batches[first:]) == 2


def test_a_lowered_ceiling_rises_again():
    model = Model(fits=2)

    async def main():
        async with scheduling(model, max_batch=4, max_queue_items=5000) as batcher:
            await asyncio.gather(*[ask(batcher, n) for n in range(12)])
            assert batcher._ceiling.now == 2
            model.fits = 4
            await asyncio.gather(*[ask(batcher, n) for n in range(2000)])
            assert batcher._ceiling.now == 4

    run_virtually(main())


def test_a_fatal_error_of_the_device_is_told_and_its_images_are_told_to_come_back():
    told = []

    def dead(pixels, outputs):
        raise RuntimeError("CUDA failure 700: an illegal memory access was encountered ; GPU=0")

    async def main():
        async with scheduling(dead, on_fatal=told.append) as batcher:
            answers = await asyncio.gather(*[ask(batcher, n) for n in range(3)], return_exceptions=True)
            assert all(isinstance(answer, UnavailableError) for answer in answers)
            assert not any("illegal" in str(answer) for answer in answers)

    run_virtually(main())
    assert [type(error) for error in told] == [RuntimeError]


def test_a_model_that_fails_on_everything_is_left_alone_until_it_was_seen_to_work():
    model = Model(broken=True)

    async def main():
        async with scheduling(model, max_failures=3) as batcher:
            for n in range(3):
                with pytest.raises(EngineError):
                    await ask(batcher, n)
            assert not batcher.healthy
            with pytest.raises(UnavailableError, match="being checked"):
                await ask(batcher, 4)
            assert len(model.batches) == 3
            model.broken = False
            batcher.mend()
            assert await ask(batcher, 5) == 5
            assert batcher.healthy

    run_virtually(main())


def test_one_good_answer_between_failures_keeps_the_model_in_use():
    async def main():
        async with scheduling(Model(poison={1, 2, 4, 5}), max_failures=3) as batcher:
            for n in range(7):
                await asyncio.gather(ask(batcher, n), return_exceptions=True)
            assert batcher.healthy

    run_virtually(main())


def test_batches_are_filled_up_to_the_sizes_that_the_device_runs_and_the_filling_is_not_answered():
    model = Model()

    async def main():
        async with scheduling(model, max_batch=8, sizes=(1, 4, 8)) as batcher:
            plug = ask(batcher, 9)
            await asyncio.sleep(0.001)
            answers = await asyncio.gather(*[ask(batcher, n) for n in (1, 2, 3)])
            await plug
            assert [float(answer[0]) for answer in answers] == [1, 2, 3]
            assert counted(batcher, "bootleg_batch_padding_total") == 1
            assert counted(batcher, "bootleg_batch_size_sum") == 4

    run_virtually(main())
    assert [len(batch) for batch in model.batches] == [1, 4]


def test_a_smaller_full_batch_goes_first_where_filling_up_costs_more():
    model = Model()

    async def main():
        async with scheduling(model, max_batch=16, sizes=(1, 4, 16), fixed=0.0) as batcher:
            for size in (1, 4):  # the fit
                await asyncio.gather(*[ask(batcher, n) for n in range(size)])
            plug = ask(batcher, 100)
            await asyncio.sleep(0.001)
            await asyncio.gather(plug, *[ask(batcher, n) for n in range(5)])

    run_virtually(main())
    assert [len(batch) for batch in model.batches][-2:] == [4, 1]


def test_no_wait_for_images_in_decode_when_merging_saves_nothing():
    async def took(fixed):
        async with scheduling(Model(), arriving=lambda: 1, fixed=fixed, max_batch=8) as batcher:
            for size in (1, 2, 3, 1, 2, 3):
                await asyncio.gather(*[ask(batcher, n) for n in range(size)])
            begun = asyncio.get_running_loop().time()
            await ask(batcher, 1)
            return asyncio.get_running_loop().time() - begun

    assert run_virtually(took(0.0)) == pytest.approx(PER_IMAGE)
    assert run_virtually(took(FIXED)) == pytest.approx(PER_IMAGE + FIXED + MAX_WAIT)


def test_a_device_with_a_fixed_cost_is_kept_busy_with_full_batches_under_load():
    model = Model()
    count = 4000

    async def main():
        async with scheduling(model, max_batch=16, max_queue_items=5000) as batcher:
            begun = asyncio.get_running_loop().time()

            async def client(number):
                for turn in range(count // 64):
                    await batcher.submit(picture(number * 60 + turn), "embedding")

            await asyncio.gather(*[client(n) for n in range(64)])
            return asyncio.get_running_loop().time() - begun

    assert run_virtually(main()) <= count / 16 * (16 * PER_IMAGE + FIXED) / 0.97


@pytest.mark.parametrize(
    ("device", "most", "sizes"),
    [("cpu", 8, ()), ("cuda", 1, (1,)), ("cuda", 8, (1, 2, 4, 8)), ("tensorrt", 12, (1, 2, 4, 8, 12))],
)
def test_batches_have_a_few_sizes_on_a_gpu_and_any_on_a_cpu(device, most, sizes):
    assert batch_sizes(device, most) == sizes
