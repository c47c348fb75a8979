"""Three times as much as the device can do, and queues of images that nobody can use any more; on a virtual clock."""

import asyncio
import random

import pytest

from bootleg_service.errors import DeadlineError, OverloadedError

from .test_scheduling import FIXED, PER_IMAGE, Model, ask, counted, scheduling
from .virtual import run_virtually

REFUSALS = (OverloadedError, DeadlineError)
BATCH, WITHIN = 8, 0.5
CAPACITY = BATCH / (BATCH * PER_IMAGE + FIXED)
"""Images a second at full batches."""


def test_at_three_times_the_capacity_who_is_taken_is_answered_in_time_and_who_is_not_is_told_at_once():
    chance = random.Random(0)
    answered, refused = [], []

    async def one(batcher, number):
        loop = asyncio.get_running_loop()
        begun = loop.time()
        try:
            await ask(batcher, number, client=str(number % 3), within=WITHIN)
        except REFUSALS as error:
            refused.append((loop.time() - begun, error.retry_after))
        else:
            answered.append(loop.time() - begun)

    async def main():
        async with scheduling(Model(), max_batch=BATCH, max_queue_items=512) as batcher:
            tasks = []
            for number in range(6000):
                await asyncio.sleep(chance.expovariate(3 * CAPACITY))
                tasks.append(asyncio.create_task(one(batcher, number)))
            await asyncio.gather(*tasks)
            return asyncio.get_running_loop().time()

    lasted = run_virtually(main())
    assert len(answered) + len(refused) == 6000
    assert sorted(answered)[int(0.85 * len(answered))] <= WITHIN
    assert max(answered) <= WITHIN + BATCH * PER_IMAGE + FIXED  # those taken from the queue at the last moment
    assert len(answered) >= 0.9 * CAPACITY * lasted, "the device is kept busy"
    at_once = sum(took == 0 for took, _ in refused)
    assert at_once >= 0.9 * len(refused)
    assert all(after is not None and after >= 0 for _, after in refused)


def test_a_queue_full_of_expired_images_costs_no_call():
    model = Model()

    async def main():
        async with scheduling(model, max_batch=4, max_queue_items=100) as batcher:
            plug = ask(batcher, 0)
            await asyncio.sleep(0.001)
            expired = [ask(batcher, n, within=0.002) for n in range(1, 100)]
            answers = await asyncio.gather(*expired, return_exceptions=True)
            assert all(isinstance(answer, REFUSALS) for answer in answers)
            await plug
            assert counted(batcher, "bootleg_queue_items") == 0
            assert await ask(batcher, 200) == 200

    run_virtually(main())
    assert model.batches == [[0], [200]]


@pytest.mark.parametrize("size", range(1, 9))
def test_a_poisoned_image_in_any_place_of_any_batch_leaves_the_others_their_solo_answers(size):
    for place in range(size):
        model = Model(poison={place + 1})

        async def main(place=place, model=model):
            async with scheduling(model, max_batch=8) as batcher:
                plug = ask(batcher, 100)
                await asyncio.sleep(0.001)
                answers = await asyncio.gather(*[ask(batcher, n) for n in range(1, size + 1)], return_exceptions=True)
                await plug
                return answers

        answers = run_virtually(main())
        assert max(len(batch) for batch in model.batches) == size
        for number, answer in enumerate(answers, start=1):
            if number == place + 1:
                assert isinstance(answer, Exception)
            else:
                assert answer == number
