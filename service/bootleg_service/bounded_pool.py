"""Work beside the event loop: whose turn it is, and how much may wait. Decoding and making masks have a pool each.

The pool decides on the event loop, by the same rules as the batcher's queue; :class:`Workers` do the work: threads
here, processes in :mod:`bootleg_service.decode_processes`.
"""

from __future__ import annotations

import asyncio
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, Generic, Protocol, TypeVar

from bootleg_service.batching.queue import FairQueue
from bootleg_service.batching.ticket import ANYBODY, Claim
from bootleg_service.errors import DeadlineError, OverloadedError

if TYPE_CHECKING:
    from collections.abc import Callable

    from prometheus_client import Counter

    from bootleg_service.settings import BatchSettings

J = TypeVar("J")
T = TypeVar("T")


@dataclass(eq=False)
class Job(Generic[J, T]):
    """One piece of work.

    Attributes:
        task: what to do.
        answer: done as soon as nobody waits for it any more.
        queued: when it came, on the event loop's clock.
        ticket: whose it is.
        begun: when a worker began, by ``time.perf_counter``; None: not yet.
        seconds: that it took; None: not done.
    """

    task: J
    answer: asyncio.Future[T]
    queued: float
    ticket: Claim
    begun: float | None = None
    seconds: float | None = None
    nbytes: int = 0


class Workers(Protocol[J, T]):
    """Whoever does the work.

    Attributes:
        size: jobs at a time.
        ahead: jobs that are handed over besides, so that no worker waits for the event loop to turn.
    """

    size: int
    ahead: int

    def run(self, job: Job[J, T]) -> asyncio.Future[T]:
        """Do a job, and note when it began and what it took."""

    async def start(self) -> None:
        """Be ready, so that the first job need not wait for it."""

    async def close(self) -> None:
        """Begin nothing more, and end."""


class Threads(Generic[J, T]):
    """Threads, for work that releases the interpreter lock. A job that nobody waits for any more is not begun."""

    ahead = 1

    def __init__(self, size: int, name: str, call: Callable[[J], T]) -> None:
        self.size = size
        self._call = call
        self._threads = ThreadPoolExecutor(size, name)

    def run(self, job: Job[J, T]) -> asyncio.Future[T]:
        """Do a job in the next free thread."""
        return asyncio.get_running_loop().run_in_executor(self._threads, self._run, job)

    async def start(self) -> None:
        """Threads start by themselves."""

    async def close(self) -> None:
        """Stop the threads; whoever waited for them has been answered."""
        self._threads.shutdown(wait=False, cancel_futures=True)

    def _run(self, job: Job[J, T]) -> T:
        if job.answer.done():
            raise DeadlineError("nobody waits for it any more")
        job.begun = time.perf_counter()
        try:
            return self._call(job.task)
        finally:
            job.seconds = time.perf_counter() - job.begun


class BoundedPool(Generic[J, T]):
    """Hands jobs to workers, each client's in turn; refuses those that would wait too long.

    Args:
        workers: do them.
        what: they are, in a message: ``images wait to be decoded``.
        max_waiting: jobs running or before their worker.
        max_seconds: longest expected wait for a worker.
        shares: between the lanes, as in the batcher.
        guess: seconds of a job before any was seen.
        rejected: counts jobs that were refused, or made room for others.
    """

    def __init__(
        self,
        workers: Workers[J, T],
        what: str,
        *,
        max_waiting: int,
        max_seconds: float,
        shares: BatchSettings,
        guess: float,
        rejected: Counter,
    ) -> None:
        self._workers = workers
        self._what = what
        self._max_waiting = max_waiting
        self._max_seconds = max_seconds
        self._queue: FairQueue[Job[J, T]] = FairQueue(
            bulk_share=shares.bulk_share, bulk_patience=shares.bulk_patience_seconds
        )
        self._running: set[asyncio.Future[T]] = set()
        self._seconds_per_job = guess
        self._rejected = rejected

    @property
    def waiting(self) -> int:
        """Jobs running or before their worker."""
        return len(self._running) + len(self._queue)

    def expected_wait(self, ticket: Claim = ANYBODY) -> float:
        """Seconds until a job that came now would begin, by what jobs have taken lately."""
        ahead = len(self._running) + self._queue.ahead_of(ticket)
        return max(0, ahead - self._workers.size + 1) * self._seconds_per_job / self._workers.size

    async def run(self, task: J, ticket: Claim = ANYBODY) -> tuple[T, Job[J, T]]:
        """Do one job. One whose caller has left, or whose deadline has passed, before it began is not done.

        Returns:
            What came of it, and its times.

        Raises:
            OverloadedError: too much waits, or it would begin after the ticket's deadline.
            DeadlineError: the deadline passed while it waited.
        """
        loop = asyncio.get_running_loop()
        self._admit(ticket)
        job: Job[J, T] = Job(task, loop.create_future(), loop.time(), ticket)
        self._queue.push(job)
        self._dispatch()
        return await job.answer, job

    async def start(self) -> None:
        """Start the workers."""
        await self._workers.start()

    async def close(self) -> None:
        """Stop the workers; whoever waited for them has been answered."""
        await self._workers.close()

    def _admit(self, ticket: Claim) -> None:
        wait, most = self.expected_wait(ticket), self._max_seconds
        if ticket.deadline is not None:
            most = min(most, ticket.deadline - asyncio.get_running_loop().time())
        if wait <= most:
            if self.waiting < self._max_waiting:
                return
            displaced = self._queue.make_room(ticket)
            if displaced is not None:
                self._rejected.inc()
                if not displaced.answer.done():
                    displaced.answer.set_exception(
                        OverloadedError(f"too many {self._what}, and others have fewer among them", retry_after=1)
                    )
                return
        self._rejected.inc()
        raise OverloadedError(
            f"{self.waiting} {self._what}, about {wait:.1f} s; "
            f"the limits are {self._max_waiting:,} and {max(most, 0):.3g} s",
            retry_after=wait,
        )

    def _dispatch(self) -> None:
        places = self._workers.size + self._workers.ahead - len(self._running)
        if places <= 0 or not len(self._queue):
            return
        for job in self._queue.take(places, asyncio.get_running_loop().time(), _expire):
            running = self._workers.run(job)
            self._running.add(running)
            running.add_done_callback(partial(self._done, job))

    def _done(self, job: Job[J, T], running: asyncio.Future[T]) -> None:
        self._running.discard(running)
        if job.seconds is not None:
            self._seconds_per_job += 0.2 * (job.seconds - self._seconds_per_job)
        error = asyncio.CancelledError() if running.cancelled() else running.exception()
        if not job.answer.done():
            if error is None:
                job.answer.set_result(running.result())
            elif isinstance(error, asyncio.CancelledError):
                job.answer.cancel()
            else:
                job.answer.set_exception(error)
        self._dispatch()


def _expire(job: Job[Any, Any]) -> None:
    if not job.answer.done():
        job.answer.set_exception(DeadlineError("the deadline passed before it was begun", retry_after=1))
