"""For how long a model has refused images for the load. Readiness turns red on it, so that others are asked instead."""

from __future__ import annotations

import asyncio
import time
from typing import Final

PAUSE_SECONDS: Final = 5.0
"""Without a refusal for so long, the load has passed: a balancer that looked elsewhere finds its way back."""


class Saturation:
    """A run of refusals."""

    def __init__(self) -> None:
        self._since = self._last = float("-inf")
        self._clock = time.monotonic  # until the first refusal says whose clock it is

    def refused(self) -> None:
        """Count a refusal that is happening now."""
        self._clock = asyncio.get_running_loop().time
        now = self._clock()
        if now - self._last > PAUSE_SECONDS:
            self._since = now
        self._last = now

    @property
    def seconds(self) -> float:
        """Since the first refusal of the run that goes on; 0 when none does. Read from any thread."""
        now = self._clock()
        return now - self._since if now - self._last <= PAUSE_SECONDS else 0.0
