"""Linear probe: multinomial logistic regression on frozen, standardised features by L-BFGS.

The regularisation is chosen on a held-out tenth of the training part; the test part is read once.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

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
    """
    mean, std = train.mean(dim=0), train.std(dim=0).clamp_min(1e-6)
    train, test = (train - mean) / std, (test - mean) / std
    classes = int(torch.max(train_labels.max(), test_labels.max())) + 1
    shuffled = torch.randperm(len(train), generator=torch.Generator().manual_seed(seed))
    held, kept = shuffled[: len(train) // 10], shuffled[len(train) // 10 :]

    def fit_and_score(l2: float) -> float:
        weights = _fit(train[kept], train_labels[kept], classes, l2)
        return _accuracy(weights, train[held], train_labels[held])

    best = max(L2_GRID, key=fit_and_score)
    return LinearProbe(_accuracy(_fit(train, train_labels, classes, best), test, test_labels), best)


def _fit(x: Tensor, y: Tensor, classes: int, l2: float) -> Tensor:
    x = F.pad(x, (0, 1), value=1.0)  # the bias
    weights = torch.zeros(x.shape[1], classes, requires_grad=True)
    lbfgs = torch.optim.LBFGS([weights], max_iter=ITERATIONS, line_search_fn="strong_wolfe")

    def closure() -> Tensor:
        lbfgs.zero_grad()
        loss = F.cross_entropy(x @ weights, y) + l2 * weights[:-1].square().sum() / 2
        loss.backward()
        return loss

    lbfgs.step(closure)  # type: ignore[no-untyped-call]
    return weights.detach()


def _accuracy(weights: Tensor, x: Tensor, y: Tensor) -> float:
    return float(((F.pad(x, (0, 1), value=1.0) @ weights).argmax(dim=1) == y).float().mean())
