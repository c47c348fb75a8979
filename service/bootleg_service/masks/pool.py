"""Threads that make masks, bounded like the decode pool: clustering and enlarging must not hold up the event loop.

While a pool lives, NumPy's BLAS runs in the calling thread alone. Its own threads wait for each other by spinning: with
the cores busy, an eigenproblem of 1,024 tokens that takes one thread 0.25 s took two of them 17 s.
"""

from __future__ import annotations

import asyncio
import time
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, TypeVar

from threadpoolctl import threadpool_limits

from bootleg_service import stages
from bootleg_service.errors import OverloadedError

if TYPE_CHECKING:
    from collections.abc import Callable

    from bootleg_service.metrics import Metrics
    from bootleg_service.settings import MaskSettings

T = TypeVar("T")


class MaskPool:
    """Runs jobs in threads of its own; refuses those that would wait too long.

    Args:
        settings: threads and bounds.
        metrics: where jobs are counted.
        max_seconds: longest expected wait for a thread.
    """

    def __init__(self, settings: MaskSettings, metrics: Metrics, *, max_seconds: float) -> None:
        self._settings = settings
        self._seconds = metrics.stage["mask"]
        self._rejected = metrics.rejected.labels("masks")
        metrics.masking.set_function(lambda: self.waiting)
        self._max_seconds = max_seconds
        self._threads = ThreadPoolExecutor(settings.threads, "bootleg-mask")
        self._blas = threadpool_limits(1, user_api="blas")
        self._seconds_per_job = 0.01
        self.waiting = 0
        """Jobs running or before their thread."""

    async def run(self, job: Callable[[], T]) -> T:
        """Run one job. A job whose caller has left before it began is not run.

        Raises:
            OverloadedError: too many jobs wait for a thread.
        """
        s = self._settings
        wait = self.waiting * self._seconds_per_job / s.threads
        if self.waiting >= s.max_waiting or wait > self._max_seconds:
            self._rejected.inc()
            raise OverloadedError(
                f"{self.waiting} masks wait to be made, about {wait:.1f} s; "
                f"the limits are {s.max_waiting:,} masks and {self._max_seconds:g} s",
                retry_after=wait,
            )
        self.waiting += 1
        try:
            result, seconds = await asyncio.get_running_loop().run_in_executor(self._threads, _timed, job)
        finally:
            self.waiting -= 1
        self._seconds_per_job += 0.2 * (seconds - self._seconds_per_job)
        self._seconds.observe(seconds)
        stages.took("mask", seconds)
        return result

    def close(self) -> None:
        """Stop the threads; whoever waited for them has been answered."""
        self._threads.shutdown(wait=False, cancel_futures=True)
        self._blas.restore_original_limits()


def _timed(job: Callable[[], T]) -> tuple[T, float]:
    begun = time.perf_counter()
    return job(), time.perf_counter() - begun
