"""The one thread that calls the engine, and what it is doing."""

from __future__ import annotations

import asyncio
import time
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable

T = TypeVar("T")


class EngineThread:
    """Runs calls one after another, outside the event loop.

    Attributes:
        busy_since: when the call that runs began, on the monotonic clock; None: idle.
    """

    def __init__(self) -> None:
        self._pool = ThreadPoolExecutor(1, "bootleg-engine")
        self.busy_since: float | None = None

    async def run(self, call: Callable[..., T], *arguments: Any) -> T:
        """Make one call, after those that were asked for before it."""
        return await asyncio.get_running_loop().run_in_executor(self._pool, self._timed, call, *arguments)

    def _timed(self, call: Callable[..., T], *arguments: Any) -> T:
        self.busy_since = time.monotonic()
        try:
            return call(*arguments)
        finally:
            self.busy_since = None

    def close(self) -> None:
        """Wait for the call that runs, and end."""
        self._pool.shutdown(wait=True)
