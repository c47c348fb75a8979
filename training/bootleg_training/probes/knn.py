"""k-nearest-neighbour probe: cosine, temperature-weighted vote. Nothing is trained."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

CHUNK = 1024


def knn_accuracy(
    bank: Tensor, bank_labels: Tensor, queries: Tensor, query_labels: Tensor, *, k: int = 20, temperature: float = 0.07
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
    bank = F.normalize(bank, dim=1)
    classes = int(torch.max(bank_labels.max(), query_labels.max())) + 1
    correct = 0
    for start in range(0, len(queries), CHUNK):
        similarity = F.normalize(queries[start : start + CHUNK], dim=1) @ bank.T
        nearest, index = similarity.topk(min(k, len(bank)), dim=1)
        votes = torch.zeros(len(nearest), classes).scatter_add_(1, bank_labels[index], (nearest / temperature).exp())
        correct += int((votes.argmax(dim=1) == query_labels[start : start + CHUNK]).sum())
    return correct / len(queries)
