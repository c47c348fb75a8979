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
    """Runs calls one after another, outside the event loop."""

    def __init__(self) -> None:
        self._pool = ThreadPoolExecutor(1, "bootleg-engine")
        # Seconds of the calls that ended, and when the one that runs began: one attribute, so that nobody reads halves.
        self._busy: tuple[float, float | None] = (0.0, None)

    async def run(self, call: Callable[..., T], *arguments: Any) -> T:
        """Make one call, after those that were asked for before it."""
        return await asyncio.get_running_loop().run_in_executor(self._pool, self._timed, call, *arguments)

    @property
    def busy_since(self) -> float | None:
        """When the call that runs began, on the monotonic clock; None: idle."""
        return self._busy[1]

    def busy_seconds(self) -> float:
        """How long it has been busy in all; never less than it was before."""
        done, since = self._busy
        return done if since is None else done + time.monotonic() - since

    def _timed(self, call: Callable[..., T], *arguments: Any) -> T:
        done, begun = self._busy[0], time.monotonic()
        self._busy = (done, begun)
        try:
            return call(*arguments)
        finally:
            self._busy = (done + time.monotonic() - begun, None)

    def close(self) -> None:
        """Wait for the call that runs, and end."""
        self._pool.shutdown(wait=True)
