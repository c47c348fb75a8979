"""Progress of long work: rich bars on a terminal, plain lines elsewhere."""

from __future__ import annotations

import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Protocol, TypeVar

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

T = TypeVar("T")
PLAIN_LINE_SECONDS = 10.0


class Meter(Protocol):
    """Shows how far a piece of work is."""

    def update(self, done: int, note: str = "") -> None:
        """Show that ``done`` units are finished."""

    def say(self, line: str) -> None:
        """Print a line that stays."""


@contextmanager
def meter(title: str, total: int, *, done: int = 0, console: Console | None = None) -> Iterator[Meter]:
    """Open a progress display of ``total`` units."""
    console = console or Console(stderr=True)
    if not console.is_terminal:
        yield _Lines(title, total, done, console)
        return
    columns = [
        TextColumn("[bold]{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[note]}"),
    ]
    with Progress(*columns, console=console) as bars:
        yield _Bar(bars, title, total, done)


def track(items: Iterable[T], total: int, title: str) -> Iterator[T]:
    """Iterate with a progress display."""
    with meter(title, total) as shown:
        for done, item in enumerate(items, start=1):
            yield item
            shown.update(done)


class Silent:
    """Shows nothing: the display of a process that does not lead."""

    def update(self, done: int, note: str = "") -> None:
        """Show nothing."""

    def say(self, line: str) -> None:
        """Print nothing."""


class _Bar:
    def __init__(self, bars: Progress, title: str, total: int, done: int) -> None:
        self._bars = bars
        self._task = bars.add_task(title, total=total, completed=done, note="")

    def update(self, done: int, note: str | None = None) -> None:
        self._bars.update(self._task, completed=done)
        if note is not None:
            self._bars.update(self._task, note=note)

    def say(self, line: str) -> None:
        self._bars.console.print(line, highlight=False, markup=False)


class _Lines:
    def __init__(self, title: str, total: int, done: int, console: Console) -> None:
        self._title, self._total, self._console = title, total, console
        self._start, self._start_done = time.monotonic(), done
        self._last = self._start

    def update(self, done: int, note: str | None = None) -> None:
        now = time.monotonic()
        if done < self._total and now - self._last < PLAIN_LINE_SECONDS:
            return
        self._last = now
        rate = (done - self._start_done) / max(now - self._start, 1e-9)
        left = (self._total - done) / rate if rate else 0.0
        self.say(
            f"{self._title} {done}/{self._total} ({100 * done / self._total:.0f} %) {left:.0f} s left {note or ''}"
        )

    def say(self, line: str) -> None:
        self._console.print(line.rstrip(), highlight=False, markup=False, soft_wrap=True)
