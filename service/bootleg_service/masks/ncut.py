"""Normalised cut over the affinity of patch tokens: segments, or the foreground, without labels.

The graph joins patches by the cosine of their tokens, in units of the image's own spread. The foreground is the side
of the second eigenvector's extreme, as in TokenCut (arXiv 2202.11539). Bounded: at most ``MAX_PAIRED`` nodes.

Shapes: N nodes, k segments, D width of a token.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np

from bootleg_service.masks.kmeans import CHOICES, closeness, cluster
from bootleg_service.masks.tokens import pooled, spread, squared_distances

if TYPE_CHECKING:
    from numpy.typing import NDArray

LINK: Final = 1e-5
"""Affinity of unlike patches: keeps the graph in one piece, so that the first eigenvector says nothing."""

CORNERS: Final = 3
"""A side with so many of the grid's four corners is the background (MaskCut, arXiv 2301.11320)."""


def segments(tokens: NDArray[np.floating], clusters: int | None) -> NDArray[np.float32]:
    """Cut tokens ``[gh, gw, D]`` into segments by spectral clustering.

    Args:
        tokens: of one image.
        clusters: k; None takes the number before the widest gap between eigenvalues, among ``CHOICES``.

    Returns:
        Scores ``[k, h, w]`` on the pooled grid: closeness to the centre of each segment, largest segment first.
    """
    grid = pooled(tokens)
    apart = spread(grid)
    if not apart.any():
        return np.zeros((1, *grid.shape[:2]), np.float32)
    values, vectors = _spectrum(apart)
    if clusters is None:
        allowed = [k for k in CHOICES if k < len(values)]
        clusters = max(allowed, key=lambda k: float(values[k - 1] - values[k]), default=1)
    rows = vectors[:, :clusters]
    rows = (rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-12)).astype(np.float32)
    centres = cluster(rows, rows, clusters)
    return closeness(rows, centres).reshape(-1, *grid.shape[:2])


def foreground(tokens: NDArray[np.floating]) -> NDArray[np.float32]:
    """Cut tokens ``[gh, gw, D]`` in two and say which side is the foreground.

    Returns:
        Scores ``[2, h, w]`` on the pooled grid: background, foreground. An image of one colour has no foreground.
    """
    grid = pooled(tokens)
    apart = spread(grid)
    scores = np.zeros((2, *grid.shape[:2]), np.float32)
    if not apart.any():
        return scores
    _, vectors = _spectrum(apart)
    second = (vectors[:, 1] - vectors[:, 1].mean()).reshape(grid.shape[:2])
    if second.flat[np.abs(second).argmax()] < 0:
        second = -second
    if np.count_nonzero(second[[0, 0, -1, -1], [0, -1, 0, -1]] > 0) >= CORNERS:
        second = -second
    scores[1] = second
    return scores


def _spectrum(apart: NDArray[np.float32]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Eigenvalues and generalised eigenvectors ``[N, N]`` of the cut, the smoothest first."""
    affinity = np.maximum(np.exp(-squared_distances(apart, apart).astype(np.float64)), LINK)
    scale = 1 / np.sqrt(affinity.sum(axis=1))
    values, eigenvectors = np.linalg.eigh(affinity * scale * scale[:, None])
    return values[::-1], eigenvectors[:, ::-1] * scale[:, None]
