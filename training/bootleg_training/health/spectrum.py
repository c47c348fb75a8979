"""Numbers that tell learning from collapse."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from torch import Tensor


def rank_me(features: Tensor) -> float:
    """Effective rank: exponential of the entropy of the normalised singular values (RankMe, Garrido et al., 2023).

    Args:
        features: ``[n, D]``, not centred.

    Returns:
        Between 1 (all features on one line) and ``min(n, D)``.
    """
    singular = torch.linalg.svdvals(features.float())
    share = singular / singular.sum().clamp_min(1e-12) + 1e-7
    return float(torch.exp(-(share * share.log()).sum()))
