"""One step's input: images, what the student sees, what it must predict.

Everything random is drawn for the whole global batch, from the configuration and the step alone, and
then cut to a process's rows: a run of any number of processes sees the same batches.

Shapes: B images of this process, V visible patches, M rectangles, T patches of a rectangle.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch

from bootleg_training.data.augment import crop_and_normalise, random_boxes
from bootleg_training.data.feed import feed, send
from bootleg_training.data.order import sample_indices
from bootleg_training.engine.progress import Progress
from bootleg_training.engine.world import World
from bootleg_training.masking import sample_masks

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray
    from torch import Tensor

    from bootleg_bundle.preprocess import PreprocessSpec
    from bootleg_training.config import RunConfig
    from bootleg_training.data.feed import Mode
    from bootleg_training.data.pack import Pack

STREAM = 0
"""Separates masks and crops from the sample order, which draws from the same seed."""


@dataclass(frozen=True)
class Batch:
    """One step's input of one process, on its device.

    Attributes:
        images_BHWC: normalised crops, float32.
        visible_BV: patch indices; ``views`` rows in a row for each image.
        rectangles_BMT: patch indices, row by row as ``visible_BV``.
    """

    images_BHWC: Tensor
    visible_BV: Tensor
    rectangles_BMT: Tensor

    def parts(self, count: int) -> list[Batch]:
        """The batch cut into ``count`` equal micro-batches."""
        cut = (self.images_BHWC, self.visible_BV, self.rectangles_BMT)
        return [Batch(*part) for part in zip(*(tensor.chunk(count) for tensor in cut), strict=True)]


def batches(
    config: RunConfig,
    pack: Pack,
    spec: PreprocessSpec,
    device: torch.device,
    *,
    begin: Progress = Progress(),  # noqa: B008  # frozen
    world: World = World(),  # noqa: B008  # frozen
    mode: Mode = "auto",
) -> Iterator[Batch]:
    """This process's batches of a run that stands at ``begin``: endless."""
    rows, step = world.rows(config.batch_size), begin.step

    def wanted() -> Iterator[NDArray[np.int64]]:
        seen = begin.images
        while True:
            yield sample_indices(len(pack.images), config.seed, seen, config.batch_size)[rows]
            seen += config.batch_size

    for images_BHWC in feed(pack, wanted(), device, mode=mode):
        yield make_batch(config, images_BHWC, spec, step, world)
        step += 1


def make_batch(
    config: RunConfig,
    images_BHWC: Tensor,
    spec: PreprocessSpec,
    step: int,
    world: World = World(),  # noqa: B008  # frozen
) -> Batch:
    """Crop this process's uint8 images and draw its masks: a pure function of the arguments."""
    rng = np.random.default_rng([config.seed, STREAM, step])
    size, (side, views) = config.batch_size, (images_BHWC.shape[1], config.mask.views)
    boxes, flips = random_boxes(config.augment, size, side, side, rng)
    masks = sample_masks(config.mask, config.encoder.grid, size * views, rng)
    rows, mask_rows = world.rows(size), world.rows(size * views)
    boxes_B4, flips_B, visible_BV, rectangles_BMT = (
        send(tensor, images_BHWC.device)
        for tensor in (
            boxes[rows],
            flips[rows],
            torch.from_numpy(masks.visible[mask_rows]),
            torch.from_numpy(masks.rectangles[mask_rows]),
        )
    )
    return Batch(
        crop_and_normalise(images_BHWC, boxes_B4, flips_B, spec.height, spec.mean, spec.std), visible_BV, rectangles_BMT
    )
