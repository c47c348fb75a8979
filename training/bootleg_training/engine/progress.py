"""Where a run stands: what the loop counts, the state saves and the schedules follow."""

from __future__ import annotations

from dataclasses import dataclass, replace


@dataclass(frozen=True)
class Progress:
    """Where a run stands.

    Attributes:
        step: optimiser steps done, skipped ones included.
        images: seen, repeats counted; the schedules follow it.
        seconds: of training, interruptions left out.
        skipped_steps: steps whose loss or gradient was not finite.
    """

    step: int = 0
    images: int = 0
    seconds: float = 0.0
    skipped_steps: int = 0

    def after(self, images: int) -> Progress:
        """One step of ``images`` further."""
        return replace(self, step=self.step + 1, images=self.images + images)

    def at(self, seconds: float, skipped_steps: int) -> Progress:
        """The same place, with what only a host synchronisation tells."""
        return replace(self, seconds=seconds, skipped_steps=skipped_steps)
