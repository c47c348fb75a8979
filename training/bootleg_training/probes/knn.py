"""k-nearest-neighbour probe: cosine, temperature-weighted vote. Nothing is trained."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.nn import functional as F

from bootleg_training.probes.split import held_out_tenth

if TYPE_CHECKING:
    from collections.abc import Sequence

CELLS = 2**26
"""Similarities held at once: 256 MB of float32."""

K = 20
CANDIDATES = (5, 10, 20, 100, 200)
TEMPERATURE = 0.07


@dataclass(frozen=True)
class KnnProbe:
    """Result of a k-NN probe.

    Attributes:
        accuracy: at ``k = 20``, the figure that papers give.
        chosen_k: best of ``CANDIDATES`` on a held-out tenth of the bank.
        chosen_accuracy: at ``chosen_k``.
    """

    accuracy: float
    chosen_k: int
    chosen_accuracy: float


def knn_probe(bank: Tensor, bank_labels: Tensor, queries: Tensor, query_labels: Tensor, *, seed: int = 0) -> KnnProbe:
    """Accuracy at k = 20, and at the k that a held-out tenth of the bank prefers.

    Args:
        bank: ``[n, D]``.
        bank_labels: int64 ``[n]``.
        queries: ``[m, D]``.
        query_labels: int64 ``[m]``.
        seed: of the held-out tenth.

    Raises:
        DataError: fewer than two bank rows.
    """
    held, kept = held_out_tenth(len(bank), seed)
    scores = knn_accuracies(bank[kept], bank_labels[kept], bank[held], bank_labels[held], CANDIDATES)
    chosen = max(CANDIDATES, key=scores.__getitem__)
    final = knn_accuracies(bank, bank_labels, queries, query_labels, (K, chosen))
    return KnnProbe(final[K], chosen, final[chosen])


def knn_accuracy(
    bank: Tensor,
    bank_labels: Tensor,
    queries: Tensor,
    query_labels: Tensor,
    *,
    k: int = K,
    temperature: float = TEMPERATURE,
) -> float:
    """Share of queries whose class wins the vote of their ``k`` nearest bank features.

    Args:
        bank: ``[n, D]``.
        bank_labels: int64 ``[n]``.
        queries: ``[m, D]``.
        query_labels: int64 ``[m]``.
        k: neighbours, cut to the bank's size.
        temperature: of the vote's softmax weights.
    """
    return knn_accuracies(bank, bank_labels, queries, query_labels, (k,), temperature=temperature)[k]


def knn_accuracies(
    bank: Tensor,
    bank_labels: Tensor,
    queries: Tensor,
    query_labels: Tensor,
    ks: Sequence[int],
    *,
    temperature: float = TEMPERATURE,
) -> dict[int, float]:
    """Accuracy for each number of neighbours, from one search; arguments as of :func:`knn_accuracy`."""
    bank = F.normalize(bank, dim=1)
    classes = int(torch.max(bank_labels.max(), query_labels.max())) + 1
    correct = dict.fromkeys(ks, 0)
    rows = max(1, CELLS // len(bank))
    for part, answers in zip(torch.split(queries, rows), torch.split(query_labels, rows), strict=True):
        nearest, index = (F.normalize(part, dim=1) @ bank.T).topk(min(max(ks), len(bank)), dim=1)
        weights, labels = (nearest / temperature).exp(), bank_labels[index]
        for k in correct:
            votes = torch.zeros(len(part), classes, device=bank.device)
            votes.scatter_add_(1, labels[:, :k], weights[:, :k])
            correct[k] += int((votes.argmax(dim=1) == answers).sum())
    return {k: count / len(queries) for k, count in correct.items()}
