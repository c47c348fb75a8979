"""How far a transfer is: a bar where rich is installed and somebody watches, plain lines elsewhere."""

from __future__ import annotations

import sys
import time
from contextlib import AbstractContextManager, contextmanager
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

LINE_SECONDS = 10.0


class OpenMeter(Protocol):
    """Opens a display of ``total`` bytes, and gives what to call with the bytes done."""

    def __call__(self, title: str, total: int) -> AbstractContextManager[Callable[[int], None]]:
        """Open it."""


@contextmanager
def terminal_meter(title: str, total: int) -> Iterator[Callable[[int], None]]:
    """A bar on a terminal, else a line every ten seconds and at the end; on stderr."""
    if sys.stderr.isatty():
        try:
            from rich.console import Console  # noqa: PLC0415
            from rich.progress import (  # noqa: PLC0415
                BarColumn,
                DownloadColumn,
                Progress,
                TextColumn,
                TimeRemainingColumn,
            )
        except ModuleNotFoundError:
            pass
        else:
            columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TimeRemainingColumn())
            with Progress(*columns, console=Console(stderr=True)) as bars:
                task = bars.add_task(title, total=total)
                yield lambda done: bars.update(task, completed=done)
            return
    yield Lines(title, total, lambda line: print(line, file=sys.stderr, flush=True))  # noqa: T201


class Lines:
    """Plain lines, no more often than ``LINE_SECONDS``."""

    def __init__(
        self, title: str, total: int, say: Callable[[str], None], clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._title, self._total, self._say, self._clock = title, total, say, clock
        self._last = clock()
        self._finished = False

    def __call__(self, done: int) -> None:
        """Print a line, if one is due."""
        finished = done >= self._total
        if self._finished or (not finished and self._clock() - self._last < LINE_SECONDS):
            return
        self._last, self._finished = self._clock(), finished
        share = 100 * done / self._total if self._total else 100
        self._say(f"{self._title}: {done / 1e6:,.1f} of {self._total / 1e6:,.1f} MB ({share:.0f} %)")
