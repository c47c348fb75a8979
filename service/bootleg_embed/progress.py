"""How far a run is: a rich bar on a terminal, a plain line every ten seconds elsewhere."""

from __future__ import annotations

import contextlib
import sys
import time
from typing import TYPE_CHECKING, Protocol, TextIO

if TYPE_CHECKING:
    from collections.abc import Iterator

PLAIN_LINE_SECONDS = 10.0


class Meter(Protocol):
    """Shows how far a run is."""

    def update(self, done: int, failed: int) -> None:
        """Show that ``done`` images have an answer, ``failed`` of them a failure."""


@contextlib.contextmanager
def meter(total: int, done: int, out: TextIO | None = None) -> Iterator[Meter]:
    """A display of ``total`` images of which ``done`` were there before."""
    out = out or sys.stderr
    if out.isatty():
        with contextlib.suppress(ModuleNotFoundError), _bar(total, done) as bar:
            yield bar
            return
    yield Lines(total, done, out)


class Lines:
    """Plain lines."""

    def __init__(self, total: int, done: int, out: TextIO) -> None:
        self._total, self._before, self._out = total, done, out
        self._begun = self._last = time.monotonic()

    def update(self, done: int, failed: int) -> None:
        """A line, if the last one is long enough ago."""
        now = time.monotonic()
        if now - self._last < PLAIN_LINE_SECONDS:
            return
        self._last = now
        rate = (done - self._before) / (now - self._begun)
        left = (self._total - done) / rate if rate else 0.0
        share = f"{100 * done / self._total:.0f} %"
        line = f"embed {done:,}/{self._total:,} ({share}), {failed:,} failed, {rate:.1f} images/s, {left:.0f} s left"
        print(line, file=self._out, flush=True)


class _Bar:
    def __init__(self, bars: object, task: object, before: int) -> None:
        self._bars, self._task, self._before = bars, task, before
        self._begun = time.monotonic()

    def update(self, done: int, failed: int) -> None:
        rate = (done - self._before) / max(time.monotonic() - self._begun, 1e-9)
        note = f"{rate:.1f} images/s, {failed:,} failed"
        self._bars.update(self._task, completed=done, note=note)  # type: ignore[attr-defined]  # rich is optional


@contextlib.contextmanager
def _bar(total: int, done: int) -> Iterator[Meter]:
    from rich.console import Console  # noqa: PLC0415  # optional: plain lines do without
    from rich.progress import (  # noqa: PLC0415
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

    columns = [
        TextColumn("[bold]embed"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[note]}"),
    ]
    with Progress(*columns, console=Console(stderr=True)) as bars:
        yield _Bar(bars, bars.add_task("embed", total=total, completed=done, note=""), done)
