"""Whether the model still answers rightly: the bundle's golden images, run between batches on a timer.

A device can fail without saying so: after some faults it answers garbage with every appearance of success. The
application starts the watch; readiness reads :attr:`Canary.passed`. A batcher that gave up on a model that failed
on everything is told when the model works again.
"""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING

from bootleg_service.batching.faults import Fault, classify

if TYPE_CHECKING:
    from collections.abc import Callable

    from bootleg_service.batching.batcher import Batcher
    from bootleg_service.metrics import ModelMetrics

log = logging.getLogger("bootleg.canary")

RETRY_SECONDS = 5.0
"""Between checks while something is wrong."""


class Canary:
    """Checks on a timer.

    Args:
        check: runs the golden images and raises when an answer is off.
        batcher: whose thread it runs on, and who is told that the model works.
        metrics: the model's, where the outcome is published.
        every: seconds between checks while all is well.
        on_fatal: called with an error after which the device answers nothing but garbage.

    Attributes:
        passed: the outcome of the last check; the service checked once before it began.
    """

    def __init__(
        self,
        check: Callable[[], object],
        batcher: Batcher,
        metrics: ModelMetrics,
        *,
        every: float,
        on_fatal: Callable[[BaseException], None] | None = None,
    ) -> None:
        self._check = check
        self._batcher = batcher
        self._published = metrics.canary
        self._every = every
        self._on_fatal = on_fatal
        self._set(passed=True)

    async def watch(self) -> None:
        """Check for as long as the service runs."""
        due = self._now() + self._every
        while True:
            await asyncio.sleep(min(RETRY_SECONDS, self._every))
            if self._now() >= due or not self.passed or not self._batcher.healthy:
                await self.look()
                due = self._now() + self._every

    async def look(self) -> None:
        """Check now."""
        try:
            await self._batcher.thread.run(self._check)
        except Exception as error:  # a wrong answer, or whatever the runtime raises
            log.exception("the golden images were not answered rightly")
            self._set(passed=False)
            if classify(error) is Fault.FATAL and self._on_fatal is not None:
                self._on_fatal(error)
        else:
            self._set(passed=True)
            self._batcher.mend()

    def _set(self, *, passed: bool) -> None:
        self.passed = passed
        self._published.set(passed)

    def _now(self) -> float:
        return asyncio.get_running_loop().time()
