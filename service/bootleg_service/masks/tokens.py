"""Patch tokens made comparable within one image. What both label-free methods begin with.

They compare by cosine. Tokens of one image share a large common direction, so that all cosines are near 1 and what
counts is their differences: unit tokens less their mean, at a scale of one. Squared distances are then cosine
distances, in units of the image's own spread.

Shapes: N tokens of a grid of gh x gw, D width of a token.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Final

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

MAX_PAIRED: Final = 1024
"""Tokens that are compared each with each: 4 MB of cosines, and an eigenproblem of a fraction of a second."""

FLAT: Final = 1e-3
"""Spread of unit tokens that says nothing, near float16's precision: one colour, one segment."""


def spread(tokens: NDArray[np.floating]) -> NDArray[np.float32]:
    """Vectors ``[N, D]`` of tokens ``[gh, gw, D]``, of mean 0 and mean square 1; zeros when they are all alike."""
    flat = tokens.reshape(-1, tokens.shape[-1]).astype(np.float32)
    flat /= np.maximum(np.linalg.norm(flat, axis=1, keepdims=True), 1e-12)
    flat -= flat.mean(axis=0)
    scale = float(np.sqrt(np.mean(np.sum(flat**2, axis=1))))
    return flat / scale if scale > FLAT else np.zeros_like(flat)


def pooled(tokens: NDArray[np.floating]) -> NDArray[np.float32]:
    """Average neighbours ``[gh, gw, D]`` in squares until at most ``MAX_PAIRED`` are left."""
    height, width, _ = tokens.shape
    side = 1
    while math.ceil(height / side) * math.ceil(width / side) > MAX_PAIRED:
        side += 1
    rows, columns = np.arange(0, height, side), np.arange(0, width, side)
    sums = np.add.reduceat(np.add.reduceat(tokens.astype(np.float32), rows, axis=0), columns, axis=1)
    per_row, per_column = np.diff([*rows, height]), np.diff([*columns, width])
    means: NDArray[np.float64] = sums / (per_row[:, None, None] * per_column[:, None])
    return means.astype(np.float32)


def squared_distances(a: NDArray[np.float32], b: NDArray[np.float32]) -> NDArray[np.float32]:
    """Between every row of ``a`` ``[N, D]`` and of ``b`` ``[M, D]``: ``[N, M]``."""
    squares: NDArray[np.float32] = np.sum(a**2, axis=1)[:, None] + np.sum(b**2, axis=1) - 2 * a @ b.T
    return np.maximum(squares, 0)
