"""Learning rate, weight decay and teacher momentum as functions of the images seen. No state."""

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


def rates(config: RunConfig, images: int) -> StepRates:
    """Rates of the step that begins when a resolved run has seen ``images``: warm-up, cosine decay, linear momentum."""
    optim = config.optim
    assert optim.ema_start is not None, "the schedule needs a resolved configuration"
    length = config.steps * config.batch_size
    done = images / length
    warmup_images = math.ceil(optim.warmup * config.steps) * config.batch_size
    if images < warmup_images:
        lr = config.peak_lr * min(1.0, (images + config.batch_size) / warmup_images)
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
