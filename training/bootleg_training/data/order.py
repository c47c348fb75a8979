"""Sample order as a pure function of (seed, epoch, position).

A keyed bijection of [0, n) evaluated where it is needed: resuming costs nothing, no list of indices
exists, and the global order is the same at any world size.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

ROUNDS = 6
STREAM = 1
"""Separates this use of a run's seed from the loop's, which is 0."""


def sample_indices(images: int, seed: int, start: int, count: int) -> NDArray[np.int64]:
    """Indices of samples ``start`` to ``start + count`` of an endless run over ``images`` images.

    Every epoch visits every image exactly once, in its own order.
    """
    position = np.arange(start, start + count, dtype=np.int64)
    epoch, place = position // images, position % images
    out = np.empty(count, np.int64)
    for value in np.unique(epoch):
        chosen = epoch == value
        out[chosen] = permute(place[chosen], images, seed, int(value))
    return out


def permute(values: NDArray[np.int64], n: int, seed: int, epoch: int) -> NDArray[np.int64]:
    """A Feistel permutation of [0, n), walked until it lands inside (Black and Rogaway, 2002)."""
    half = max(1, ((n - 1).bit_length() + 1) // 2)
    mask = np.uint64((1 << half) - 1)
    keys = np.random.default_rng([seed, STREAM, epoch]).integers(2**63, size=ROUNDS, dtype=np.uint64)
    out = values.astype(np.uint64)
    outside = np.ones(len(out), bool)
    while outside.any():
        left, right = out[outside] >> np.uint64(half), out[outside] & mask
        for key in keys:
            left, right = right, left ^ (_mix(right ^ key) & mask)
        out[outside] = (left << np.uint64(half)) | right
        outside = out >= n
    return out.astype(np.int64)


def _mix(x: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """The finaliser of SplitMix64; wraps around on purpose."""
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))
