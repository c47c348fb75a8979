"""The tenth of the training part that chooses hyperparameters. Every probe takes it from here; none reads the test."""

from __future__ import annotations

import torch
from torch import Tensor

from bootleg_bundle.errors import DataError


def held_out_tenth(count: int, seed: int) -> tuple[Tensor, Tensor]:
    """Split ``count`` rows at random.

    Returns:
        Indices of the tenth (at least one row) and of the rest, int64, disjoint, all rows together.

    Raises:
        DataError: fewer than two rows.
    """
    if count < 2:
        raise DataError(f"a probe needs at least 2 images to learn from, a tenth of them to choose by; got {count}")
    shuffled = torch.randperm(count, generator=torch.Generator().manual_seed(seed))
    tenth = max(1, count // 10)
    return shuffled[:tenth], shuffled[tenth:]
