"""k-means without chance: the same vectors always give the same clusters, on one machine.

Seeds are chosen one after the other, each the vector that lowers the total distance most; then Lloyd's steps.

Shapes: N vectors of width D, M of them candidates for seeds, k clusters.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np

from bootleg_service.masks.tokens import squared_distances

if TYPE_CHECKING:
    from numpy.typing import NDArray

STEPS: Final = 50
CHOICES: Final = range(2, 9)
"""Numbers of clusters that are tried when none is asked for."""

SAME: Final = 1e-4
"""Squared distance, in units of the spread, below which vectors do not differ: float32's rounding."""


def cluster(vectors: NDArray[np.float32], candidates: NDArray[np.float32], clusters: int | None) -> NDArray[np.float32]:
    """Cluster vectors whose mean square is about 1.

    Args:
        vectors: ``[N, D]``.
        candidates: ``[M, D]``, that seeds are taken from; memory is M x M.
        clusters: k; None chooses among ``CHOICES`` by the silhouette.

    Returns:
        Centres ``[k, D]``, the cluster with most vectors first; fewer than k where fewer vectors differ.
    """
    wanted = [clusters] if clusters is not None else [k for k in CHOICES if k <= len(vectors)]
    seeds = candidates[_seeds(candidates, max(wanted, default=1))]
    found = [_lloyd(vectors, seeds[:k]) for k in wanted if k <= len(seeds)] or [_lloyd(vectors, seeds)]
    return max(found, key=lambda centres: _silhouette(vectors, centres)) if len(found) > 1 else found[0]


def closeness(vectors: NDArray[np.float32], centres: NDArray[np.float32]) -> NDArray[np.float32]:
    """Scores ``[k, N]``, the nearest centre's the highest; linear in the vectors, and so fit to be interpolated."""
    scores: NDArray[np.float32] = centres @ vectors.T - np.sum(centres**2, axis=1)[:, None] / 2
    return scores


def _seeds(candidates: NDArray[np.float32], count: int) -> list[int]:
    """Indices of up to ``count`` candidates that differ; the first k of them are the seeds for k."""
    distance = squared_distances(candidates, candidates)
    nearest = np.full(len(candidates), np.inf, np.float32)
    chosen: list[int] = []
    while len(chosen) < count and nearest.max() > SAME:
        best = int(np.minimum(nearest[None], distance).sum(axis=1).argmin())
        chosen.append(best)
        nearest = np.minimum(nearest, distance[best])
    return chosen


def _lloyd(vectors: NDArray[np.float32], centres: NDArray[np.float32]) -> NDArray[np.float32]:
    labels = np.full(len(vectors), -1)
    for _ in range(STEPS):
        previous, labels = labels, closeness(vectors, centres).argmax(axis=0)
        if np.array_equal(previous, labels):
            break
        members = (labels == np.arange(len(centres))[:, None]).astype(np.float32)
        counts = members.sum(axis=1, keepdims=True)
        centres = np.where(counts > 0, members @ vectors / np.maximum(counts, 1), centres)  # an empty one stays
    sizes = np.bincount(closeness(vectors, centres).argmax(axis=0), minlength=len(centres))
    return centres[np.argsort(-sizes, kind="stable")[: np.count_nonzero(sizes)]]


def _silhouette(vectors: NDArray[np.float32], centres: NDArray[np.float32]) -> float:
    """How much nearer the own centre is than the second one: mean of (b - a) / b of their distances, in 0 to 1."""
    if len(centres) < 2:
        return -1.0
    nearest = np.sqrt(np.sort(squared_distances(vectors, centres), axis=1))
    return float(np.mean((nearest[:, 1] - nearest[:, 0]) / np.maximum(nearest[:, 1], 1e-6)))
