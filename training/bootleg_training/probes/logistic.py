"""Multinomial logistic regression by L-BFGS: the classifier of the linear probe and of patch segmentation.

Shapes: n rows, D features, C classes.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

CHUNK = 65_536


def standardise(train_nD: Tensor) -> tuple[Tensor, Tensor]:
    """Offset and scale ``[D]`` that give the training rows mean 0 and deviation 1; a constant feature stays finite."""
    return train_nD.mean(dim=0), train_nD.std(dim=0).clamp_min(1e-6)


def fit_logistic(
    x_nD: Tensor,
    y_n: Tensor,
    classes: int,
    l2: float,
    *,
    iterations: int,
    tolerance: float = 1e-7,
    start: Tensor | None = None,
) -> Tensor:
    """Minimise mean cross-entropy + ``l2`` / 2 * squared weights; the bias is not penalised.

    scikit-learn's ``C`` is ``1 / (l2 * n)``. The problem is convex: ``start`` shortens the way, the end is the same.

    Args:
        x_nD: standardised features.
        y_n: int64 labels.
        classes: C.
        l2: regularisation.
        iterations: L-BFGS steps at most.
        tolerance: largest entry of the gradient at which it stops earlier.
        start: weights to begin from; zeros when None.

    Returns:
        Weights ``[D + 1, C]``, the bias in the last row.
    """
    x = F.pad(x_nD, (0, 1), value=1.0)
    weights = torch.zeros(x.shape[1], classes, device=x.device) if start is None else start.clone()
    weights.requires_grad_()
    lbfgs = torch.optim.LBFGS([weights], max_iter=iterations, tolerance_grad=tolerance, line_search_fn="strong_wolfe")

    def closure() -> Tensor:
        lbfgs.zero_grad()
        loss = F.cross_entropy(x @ weights, y_n) + l2 * weights[:-1].square().sum() / 2
        loss.backward()  # type: ignore[no-untyped-call]
        return loss

    lbfgs.step(closure)  # type: ignore[no-untyped-call]
    return weights.detach()


def predict(weights: Tensor, x_nD: Tensor) -> Tensor:
    """The most probable class of each row, int64 ``[n]``."""
    parts = [part @ weights[:-1] + weights[-1] for part in torch.split(x_nD, CHUNK)]
    return torch.cat([part.argmax(dim=1) for part in parts])
