"""How long a run takes, how fast it is, and how much of the time it waits for images. The loop reads it."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from bootleg_training.engine.progress import Progress

T = TypeVar("T")


class Clock:
    """Seconds of the run, interruptions left out, and how many of them were spent waiting for images."""

    def __init__(self, progress: Progress, now: Callable[[], float] = time.monotonic) -> None:
        self._now = now
        self._begun = now() - progress.seconds
        self._lap = (now(), progress.images)
        self._waited = 0.0

    @property
    def seconds(self) -> float:
        """Of the whole run, earlier starts included."""
        return self._now() - self._begun

    def waiting_for(self, source: Iterator[T]) -> T:
        """The next item; the time it takes counts as waiting."""
        begun = self._now()
        item = next(source)
        self._waited += self._now() - begun
        return item

    def lap(self, progress: Progress) -> dict[str, float]:
        """Throughput, and the share of the time spent waiting for images, since the last lap."""
        now, (before, images) = self._now(), self._lap
        passed = max(now - before, 1e-9)
        timing = {
            "images_per_s": round((progress.images - images) / passed, 2),
            "data_wait": round(self._waited / passed, 4),
        }
        self._lap, self._waited = (now, progress.images), 0.0
        return timing
