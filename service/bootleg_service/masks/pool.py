"""Threads that make masks, bounded like the decode pool: clustering and enlarging must not hold up the event loop.

While a pool lives, NumPy's BLAS runs in the calling thread alone. Its own threads wait for each other by spinning: with
the cores busy, an eigenproblem of 1,024 tokens that takes one thread 0.25 s took two of them 17 s.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar

from threadpoolctl import threadpool_limits

from bootleg_service import stages
from bootleg_service.batching.ticket import ANYBODY
from bootleg_service.bounded_pool import BoundedPool, Threads
from bootleg_service.settings import BatchSettings

if TYPE_CHECKING:
    from collections.abc import Callable

    from bootleg_service.batching.ticket import Claim
    from bootleg_service.metrics import Metrics
    from bootleg_service.settings import MaskSettings

T = TypeVar("T")


class MaskPool:
    """Runs jobs in threads of its own; refuses those that would wait too long.

    Args:
        settings: threads and bounds.
        metrics: where jobs are counted.
        max_seconds: longest expected wait for a thread.
        shares: between the lanes, as in the batcher.
    """

    def __init__(
        self, settings: MaskSettings, metrics: Metrics, *, max_seconds: float, shares: BatchSettings | None = None
    ) -> None:
        self._seconds = metrics.stage["mask"]
        metrics.masking.set_function(lambda: self.waiting)
        self._pool: BoundedPool[Callable[[], Any], Any] = BoundedPool(
            Threads(settings.threads, "bootleg-mask", _call),
            "masks wait to be made",
            max_waiting=settings.max_waiting,
            max_seconds=max_seconds,
            shares=shares or BatchSettings(),
            guess=0.01,
            rejected=metrics.rejected.labels("masks"),
        )
        self._blas = threadpool_limits(1, user_api="blas")

    @property
    def waiting(self) -> int:
        """Jobs running or before their thread."""
        return self._pool.waiting

    async def run(self, job: Callable[[], T], ticket: Claim = ANYBODY) -> T:
        """Run one job. One whose caller has left before it began is not run.

        Raises:
            OverloadedError: too many jobs wait, or it would begin after the ticket's deadline.
            DeadlineError: the deadline passed while it waited.
        """
        result: T
        result, done = await self._pool.run(job, ticket)
        assert done.seconds is not None
        self._seconds.observe(done.seconds)
        stages.took("mask", done.seconds)
        return result

    async def close(self) -> None:
        """Stop the threads; whoever waited for them has been answered."""
        await self._pool.close()
        self._blas.restore_original_limits()


def _call(job: Callable[[], T]) -> T:
    return job()
