"""How long a batch of n images takes: ``seconds = a * n + b``, fitted to the batches as they run.

The batcher asks it how long the queue will take, whether waiting for one more image pays, and which batch size is
cheapest. Least squares with exponential forgetting, as BentoML's dispatcher does over its last batches.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

FORGET = 0.98
"""Weight of a batch against the next one: the last fifty or so count, as a clock rate or a neighbour may change."""

FIRST_GUESS = 0.01
"""Seconds an image, before anything was measured."""


@dataclass
class LatencyModel:
    """The fit.

    Attributes:
        per_image: a, seconds.
        fixed: b, seconds; None while all batches had about one size, so that it cannot be told from ``a``.
    """

    per_image: float = FIRST_GUESS
    fixed: float | None = None
    _w: float = 0.0
    _n: float = 0.0
    _nn: float = 0.0
    _t: float = 0.0
    _nt: float = 0.0

    def observe(self, images: int, seconds: float) -> None:
        """Take one batch into account."""
        self._w = FORGET * self._w + 1
        self._n = FORGET * self._n + images
        self._nn = FORGET * self._nn + images * images
        self._t = FORGET * self._t + seconds
        self._nt = FORGET * self._nt + images * seconds
        spread = self._nn / self._w - (self._n / self._w) ** 2
        if spread < 0.25:  # sizes within half an image of each other
            self.per_image, self.fixed = self._t / self._n, None
            return
        slope = (self._nt / self._w - self._n * self._t / self._w**2) / spread
        slope = min(max(slope, 0.0), self._nt / self._nn)  # neither part of the time is negative
        self.per_image, self.fixed = slope, max((self._t - slope * self._n) / self._w, 0.0)

    def batch(self, images: int) -> float:
        """Seconds of one batch."""
        return self.per_image * images + (self.fixed or 0.0)

    def drain(self, images: int, most: int) -> float:
        """Seconds until ``images`` have run in batches of up to ``most``.

        The last one, if it is not the first, is taken for full: others come while those before it run.
        """
        return self.batch(images) if images < most else math.ceil(images / most) * self.batch(most)
