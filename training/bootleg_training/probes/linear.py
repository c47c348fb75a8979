"""Linear probe: multinomial logistic regression on frozen, standardised features.

The regularisation is chosen on a held-out tenth of the training part; the test part is read once.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from bootleg_training.probes.logistic import fit_logistic, predict, standardise
from bootleg_training.probes.split import held_out_tenth

if TYPE_CHECKING:
    from torch import Tensor

L2_GRID = (1e-5, 1e-4, 1e-3, 1e-2)
ITERATIONS = 200


@dataclass(frozen=True)
class LinearProbe:
    """Result of a linear probe; ``l2`` is the chosen regularisation."""

    accuracy: float
    l2: float


def linear_probe(
    train: Tensor, train_labels: Tensor, test: Tensor, test_labels: Tensor, *, seed: int = 0
) -> LinearProbe:
    """Fit on ``train`` and score on ``test``.

    Args:
        train: ``[n, D]`` features.
        train_labels: int64 ``[n]``.
        test: ``[m, D]`` features.
        test_labels: int64 ``[m]``.
        seed: of the held-out tenth.

    Raises:
        DataError: fewer than two training rows.
    """
    mean, std = standardise(train)
    train, test = (train - mean) / std, (test - mean) / std
    classes = int(torch.max(train_labels.max(), test_labels.max())) + 1
    held, kept = held_out_tenth(len(train), seed)

    def held_out_accuracy(l2: float) -> float:
        weights = fit_logistic(train[kept], train_labels[kept], classes, l2, iterations=ITERATIONS)
        return _accuracy(weights, train[held], train_labels[held])

    best = max(L2_GRID, key=held_out_accuracy)
    final = fit_logistic(train, train_labels, classes, best, iterations=ITERATIONS)
    return LinearProbe(_accuracy(final, test, test_labels), best)


def _accuracy(weights: Tensor, x: Tensor, y: Tensor) -> float:
    return float((predict(weights, x) == y).float().mean())
