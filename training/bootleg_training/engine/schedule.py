"""Learning rate, weight decay and teacher momentum as functions of the step. No state."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from bootleg_training.config import RunConfig


@dataclass(frozen=True)
class StepRates:
    """The rates of one optimiser step."""

    lr: float
    weight_decay: float
    momentum: float


def rates(config: RunConfig, step: int) -> StepRates:
    """Rates of 0-based ``step`` of a resolved run: linear warm-up, cosine decay, linear momentum."""
    optim = config.optim
    assert optim.ema_start is not None, "the schedule needs a resolved configuration"
    done = step / config.steps
    warmup_steps = optim.warmup * config.steps
    if step < warmup_steps:
        lr = config.peak_lr * (step + 1) / math.ceil(warmup_steps)
    else:
        lr = _cosine(config.peak_lr, optim.final_lr, (done - optim.warmup) / (1 - optim.warmup))
    end = optim.weight_decay if optim.final_weight_decay is None else optim.final_weight_decay
    return StepRates(
        lr=lr,
        weight_decay=_cosine(optim.weight_decay, end, done),
        momentum=optim.ema_start + (optim.ema_end - optim.ema_start) * done,
    )


def _cosine(start: float, end: float, done: float) -> float:
    return end + (start - end) * (1 + math.cos(math.pi * min(done, 1.0))) / 2
