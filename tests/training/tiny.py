"""A run of the whole method that takes milliseconds a step."""

from __future__ import annotations

from contextlib import closing
from typing import Any

import numpy as np
import torch

from bootleg_bundle.preprocess import PreprocessSpec
from bootleg_training.config import RunConfig
from bootleg_training.data.pack import Pack
from bootleg_training.engine.batch import Batch, batches
from bootleg_training.engine.progress import Progress
from bootleg_training.objective import Bootleg
from tests import images

CPU = torch.device("cpu")
SIDE = 40
ENCODER = {
    "image_size": 32,
    "patch_size": 4,
    "width": 32,
    "depth": 3,
    "heads": 4,
    "registers": 1,
    "initial": "fixed",
}


def tiny_config(*, encoder: dict[str, Any] | None = None, **changes: Any) -> RunConfig:
    """Resolved settings; ``encoder`` and every other section may be changed."""
    fields = {
        "encoder": {**ENCODER, **(encoder or {})},
        "images": 96,
        "batch_size": 8,
        "precision": "fp32",
        "log_every": 1,
        "probe_every": 1000,
        "save_every": 1000,
        **changes,
    }
    return RunConfig.model_validate(fields).resolved()


def tiny_pack(count: int = 40, *, labelled: bool = False, side: int = SIDE) -> Pack:
    """Smooth pictures in memory; the label, where wanted, is whether a picture is dark."""
    pictures = np.stack([images.scene(side, side, seed=seed) for seed in range(count)])
    labels = np.arange(count) % 2 if labelled else None
    if labelled:
        pictures[::2] //= 4
    return Pack(
        pictures,
        labels,
        ("dark", "light") if labelled else (),
        f"tiny-{count}",
        "tiny",
        PreprocessSpec(height=side, width=side),
    )


def tiny_model(config: RunConfig, seed: int = 0) -> Bootleg:
    """A model with repeatable weights, its teacher unlike its student as in the middle of a run."""
    torch.manual_seed(seed)
    model = Bootleg(config)
    with torch.no_grad():
        for parameter in model.teacher.parameters():
            parameter.add_(0.02 * torch.randn_like(parameter))
    return model


def tiny_batch(config: RunConfig, pack: Pack, step: int = 0) -> Batch:
    """The batch of a step, as the loop loads it."""
    side = config.encoder.image_size
    spec = PreprocessSpec(height=side, width=side)
    begin = Progress(step, step * config.batch_size)
    with closing(batches(config, pack, spec, CPU, begin=begin, mode="mapped")) as source:
        return next(source)


def loss_of(model: Bootleg, batch: Batch):
    """The objective on a batch."""
    return model(batch.images_BHWC, batch.visible_BV, batch.rectangles_BMT)
