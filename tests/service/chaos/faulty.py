"""An engine that fails as models do: now and then, on some images always, on large batches, and sometimes for long."""

from __future__ import annotations

import random
import time
from typing import TYPE_CHECKING

from tests.service.fake_engine import FakeEngine
from tests.service.pictures import number_of

if TYPE_CHECKING:
    from collections.abc import Iterable

    import numpy as np

CALM = 60_000
"""A batch of such numbers alone never fails: to ask whether the service still answers."""
STALL_SECONDS = 2.5


def is_sick(number: int) -> bool:
    """Whether the model always fails on an image: by an exception, or by a row that is not finite."""
    return number < CALM and (number % 41 == 0 or number % 43 == 0)


class FaultyEngine(FakeEngine):
    """Fails by a seed; more than five images at once never fit."""

    def __init__(self, seed: int) -> None:
        super().__init__()
        self.poison = set(range(0, CALM, 41))
        self.nan = set(range(0, CALM, 43))
        self._chance = random.Random(seed)

    def run(self, pixels: np.ndarray, outputs: Iterable[str]) -> dict[str, np.ndarray]:
        """As :meth:`FakeEngine.run`, if nothing happens."""
        calm = all(number_of(image) >= CALM for image in pixels)
        self.largest = None if calm else 5
        self.short = False
        if not calm:
            self._happen(self._chance.random())
        return super().run(pixels, outputs)

    def _happen(self, drawn: float) -> None:
        if drawn < 0.02:
            raise RuntimeError("Failed to allocate memory for requested buffer, /secret/arena.cc:7")
        if drawn < 0.05:
            raise RuntimeError("shape mismatch at /secret/path.cc:42")
        self.short = drawn < 0.08
        if drawn > 0.998:
            time.sleep(STALL_SECONDS)
        elif drawn > 0.9:
            time.sleep(self._chance.uniform(0.005, 0.05))
