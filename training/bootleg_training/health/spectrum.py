"""Numbers that tell learning from collapse, each of a matrix of features; pure functions, called by the health check.

Shapes: n features, D width.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch.nn import functional as F

if TYPE_CHECKING:
    from torch import Tensor


def rank_me(features: Tensor) -> float:
    """Effective rank: exponential of the entropy of the normalised singular values (RankMe, Garrido et al., 2023).

    Args:
        features: ``[n, D]``, not centred.

    Returns:
        Between 1 (all features on one line) and ``min(n, D)``; NaN where a feature is not finite.
    """
    if not features.isfinite().all():
        return float("nan")
    singular = torch.linalg.svdvals(features.float())
    share = singular / singular.sum().clamp_min(1e-12) + 1e-7
    return float(torch.exp(-(share * share.log()).sum()))


def slope_range(n: int, width: int) -> tuple[int, int]:
    """First and last rank, from 1, of the eigenvalues that :func:`alpha_req` fits.

    The head of the spectrum holds what few images share and its tail is noise, so the fit runs from the 11th
    eigenvalue (Stringer et al., 2019; Agrawal et al., 2022) to the middle of those there are: 11 to 64 of 128.
    Narrow features begin earlier, at a quarter of that.
    """
    last = max(2, min(n - 1, width) // 2)
    return min(11, max(1, last // 4)), last


def alpha_req(features: Tensor) -> float:
    """Decay of the covariance's eigenvalues, lambda_i ~ i^-alpha (alpha-ReQ, Agrawal et al., 2022).

    Least squares of log eigenvalue over log rank, in the range that :func:`slope_range` states. Near 1 is best;
    above, few directions hold everything; far below, noise fills all of them.

    Args:
        features: ``[n, D]``; centred here.

    Returns:
        alpha; NaN where there is no spectrum: features that are all alike or not finite, or fewer than 4 of them.
    """
    n, width = features.shape
    centred = (features - features.mean(dim=0)).double()
    if n < 4 or not centred.isfinite().all():
        return float("nan")
    eigenvalues = torch.linalg.svdvals(centred).square()
    first, last = slope_range(n, width)
    # Features that are equal in float32 differ by its rounding: below this share of their length there is no spectrum.
    scale = features.double().square().sum()
    if eigenvalues[0] <= 1e-12 * scale or eigenvalues[last - 1] <= 0:
        return float("nan")
    x = torch.arange(first, last + 1, dtype=torch.float64).log()
    y = eigenvalues[first - 1 : last].log()
    x = x - x.mean()
    return float(-(x @ y) / (x @ x))


def mean_std(features: Tensor) -> float:
    """Mean over channels of the standard deviation over features ``[n, D]``."""
    return float(features.double().std(dim=0, correction=0).mean())


def mean_cosine(features: Tensor) -> float:
    """Mean cosine of all pairs of different features ``[n, D]``, n at least 2; 1 when all point the same way."""
    n = len(features)
    total = F.normalize(features.double(), dim=1).sum(dim=0)
    return float((total @ total - n) / (n * (n - 1)))
