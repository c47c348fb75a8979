"""Whose job a pool takes next, and which it never begins."""

import asyncio
import threading

import pytest

from bootleg_service.batching.ticket import Standing, Ticket
from bootleg_service.bounded_pool import BoundedPool, Threads
from bootleg_service.errors import DeadlineError, OverloadedError
from bootleg_service.metrics import Metrics
from bootleg_service.settings import BatchSettings

from .serving import eventually

pytestmark = pytest.mark.anyio


class Held:
    """A pool of one thread whose jobs wait for the gate."""

    def __init__(self, **chosen):
        self.gate = threading.Event()
        self.done = []
        bounds = {"max_waiting": 100, "max_seconds": 1000.0, "shares": BatchSettings(), "guess": 0.001} | chosen
        self.rejected = Metrics().rejected
        self.pool = BoundedPool(
            Threads(1, "test", self._call), "jobs wait", rejected=self.rejected.labels("test"), **bounds
        )

    def _call(self, task):
        assert self.gate.wait(60)
        self.done.append(task)
        return task

    def ask(self, task, client="", lane="interactive", within=None):
        deadline = None if within is None else asyncio.get_running_loop().time() + within
        return asyncio.create_task(self.pool.run(task, Ticket(client, lane, deadline)))

    async def begun(self):
        """One job in the thread, one handed over: what comes now waits for its turn."""
        tasks = [self.ask("first"), self.ask("ahead")]
        await eventually(lambda: self.pool.waiting == 2)
        return tasks


@pytest.fixture
async def held():
    made = Held()
    yield made
    made.gate.set()
    await made.pool.close()


async def test_interactive_jobs_are_begun_before_bulk_ones_that_came_earlier(held):
    tasks = await held.begun()
    tasks += [held.ask(f"bulk {n}", lane="bulk") for n in range(3)]
    tasks += [held.ask(f"quick {n}") for n in range(3)]
    await eventually(lambda: held.pool.waiting == 8)
    held.gate.set()
    await asyncio.gather(*tasks)
    assert held.done == ["first", "ahead", "quick 0", "quick 1", "quick 2", "bulk 0", "bulk 1", "bulk 2"]


async def test_each_client_has_its_turn(held):
    tasks = await held.begun()
    tasks += [held.ask(f"greedy {n}", client="greedy") for n in range(4)]
    tasks += [held.ask("modest", client="modest")]
    await eventually(lambda: held.pool.waiting == 7)
    held.gate.set()
    await asyncio.gather(*tasks)
    assert held.done.index("modest") == 3


async def test_a_job_that_became_urgent_comes_forward(held):
    tasks = await held.begun()
    standing = Standing()
    standing.join(Ticket("", "bulk"))
    tasks += [held.ask("bulk", lane="bulk"), asyncio.create_task(held.pool.run("shared", standing))]
    await eventually(lambda: held.pool.waiting == 4)
    standing.join(Ticket("", "interactive"))
    held.gate.set()
    await asyncio.gather(*tasks)
    assert held.done == ["first", "ahead", "shared", "bulk"]


async def test_a_job_past_its_deadline_or_left_by_its_caller_is_never_begun(held):
    tasks = await held.begun()
    late, left = held.ask("late", within=0.05), held.ask("left")
    await eventually(lambda: held.pool.waiting == 4)
    left.cancel()
    await asyncio.sleep(0.06)
    held.gate.set()
    with pytest.raises(DeadlineError):
        await late
    await asyncio.gather(*tasks)
    assert held.done == ["first", "ahead"]
    assert held.pool.waiting == 0


async def test_a_job_that_was_handed_over_and_left_is_not_begun_either(held):
    first, ahead = await held.begun()
    ahead.cancel()
    await asyncio.sleep(0)
    held.gate.set()
    await first
    await held.ask("next")
    assert held.done == ["first", "next"]


async def test_a_job_that_would_begin_after_its_deadline_is_refused_at_once():
    held = Held(guess=10.0)
    tasks = await held.begun()
    with pytest.raises(OverloadedError, match=r"2 jobs wait, about 20\.0 s") as refused:
        await held.ask("hopeless", within=5)
    assert refused.value.retry_after == pytest.approx(20)
    held.gate.set()
    await asyncio.gather(*tasks)
    await held.pool.close()


async def test_a_full_pool_makes_room_for_who_has_little_in_it():
    held = Held(max_waiting=6)
    tasks = await held.begun()
    greedy = [held.ask(n, client="greedy") for n in range(6)]
    await eventually(lambda: sum(task.done() for task in greedy) == 2)
    modest = held.ask("modest", client="modest")
    await eventually(lambda: sum(task.done() for task in greedy) == 3)
    held.gate.set()
    await asyncio.gather(*tasks, modest)
    outcomes = await asyncio.gather(*greedy, return_exceptions=True)
    assert [isinstance(outcome, OverloadedError) for outcome in outcomes] == [False] * 3 + [True] * 3
    await held.pool.close()
