"""A clock that jumps to the next thing that happens, and a device on it: hours of scheduling in milliseconds."""

from __future__ import annotations

import asyncio
import selectors
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

    import numpy as np


class _Jump(selectors.SelectSelector):
    """Where a loop would sleep, let the time pass at once."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 0.0

    def select(self, timeout=None):
        ready = super().select(0)
        if not ready:
            assert timeout is not None, "everything waits for something that will never happen"
            self.now += max(timeout, 0)
        return ready


class VirtualLoop(asyncio.SelectorEventLoop):
    """An event loop on virtual time; nothing in it may use threads or sockets."""

    def __init__(self) -> None:
        self.jump = _Jump()
        super().__init__(self.jump)

    def time(self) -> float:
        """Virtual seconds."""
        return self.jump.now


def run_virtually(main: Coroutine[Any, Any, Any]) -> Any:
    """Run to the end on a virtual clock."""
    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        return runner.run(main)


class VirtualThread:
    """In the place of :class:`EngineThread`: a call takes ``per_image * n + fixed`` virtual seconds.

    Attributes:
        calls: (begin, end) of each.
    """

    busy_since = None

    def __init__(self, per_image: float, fixed: float) -> None:
        self.per_image = per_image
        self.fixed = fixed
        self.calls: list[tuple[float, float]] = []
        self._running = False

    async def run(self, call: Callable[..., Any], pixels: np.ndarray, *rest: Any) -> Any:
        """As :meth:`EngineThread.run`."""
        assert not self._running, "two calls of the engine at once"
        self._running = True
        begun = asyncio.get_running_loop().time()
        try:
            await asyncio.sleep(self.per_image * len(pixels) + self.fixed)
            return call(pixels, *rest)
        finally:
            self._running = False
            self.calls.append((begun, asyncio.get_running_loop().time()))

    def busy_seconds(self) -> float:
        """As :meth:`EngineThread.busy_seconds`."""
        return sum(ended - begun for begun, ended in self.calls)

    def close(self) -> None:
        """As :meth:`EngineThread.close`."""
