"""Batches and learning rates of the probes that are trained step by step: the attentive one and the pixel head."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch
from torch.optim.lr_scheduler import LambdaLR

if TYPE_CHECKING:
    from collections.abc import Iterator

    from torch import Tensor


def shuffled(rows: Tensor, batch: int, generator: torch.Generator) -> Iterator[Tensor]:
    """Full batches of ``rows``, pass after pass, each in a new order, without end.

    Args:
        rows: int64 indices; ``batch`` is cut to their number.
        batch: rows of a batch. What does not fill one is left out of that pass.
        generator: of the orders.
    """
    batch = min(batch, len(rows))
    while True:
        order = rows[torch.randperm(len(rows), generator=generator)]
        yield from (part for part in torch.split(order, batch) if len(part) == batch)


def warm_cosine(optimiser: torch.optim.Optimizer, steps: int, warmup: float) -> LambdaLR:
    """Rise in proportion over a share ``warmup`` of the steps, then fall to zero along a cosine."""
    rise = max(1, round(warmup * steps))

    def factor(step: int) -> float:
        if step < rise:
            return (step + 1) / rise
        return 0.5 * (1 + math.cos(math.pi * (step - rise) / max(1, steps - rise)))

    return LambdaLR(optimiser, factor)
