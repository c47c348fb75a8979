"""The crops a head learns from: each picture as the service would show it, then random crops, half of them mirrored.

A crop is made when it is asked for, and follows from its number and the seed alone, whatever is asked for before.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from bootleg_bundle.preprocess import centre_box
from bootleg_training.data.augment import random_boxes

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from bootleg_bundle.preprocess import PreprocessSpec
    from bootleg_training.config import AugmentConfig
    from bootleg_training.heads.labelled import Labelled

    Box = tuple[float, float, float, float]


@dataclass(frozen=True)
class Crops:
    """Crops of labelled pictures, the first of every picture, then the second of every picture, and so on.

    Attributes:
        source: the pictures.
        spec: of the encoder's input.
        views: crops of a picture; the first is the service's.
        label_side: of the masks returned.
        augment: bounds of the random crops.
        seed: of the crops.
    """

    source: Labelled
    spec: PreprocessSpec
    views: int
    label_side: int
    augment: AugmentConfig
    seed: int

    def __len__(self) -> int:
        return self.views * len(self.source.images)

    def images(self, start: int, stop: int) -> NDArray[np.uint8]:
        """The crops of a range of numbers, ``[n, H, W, 3]``."""
        size = self.spec.width, self.spec.height
        made = [
            self._cut(number, self.source.images, size, Image.Resampling.BICUBIC) for number in self._range(start, stop)
        ]
        return np.stack(made)

    def labels(self) -> NDArray[np.uint8]:
        """The masks of all crops, ``[views * pictures, label_side, label_side]``."""
        size = self.label_side, self.label_side
        made = [
            self._cut(number, self.source.masks, size, Image.Resampling.NEAREST) for number in self._range(0, len(self))
        ]
        return np.stack(made)

    def _range(self, start: int, stop: int) -> range:
        return range(start, min(stop, len(self)))

    def _cut(
        self, number: int, pictures: list[NDArray[np.uint8]], size: tuple[int, int], resample: Image.Resampling
    ) -> NDArray[np.uint8]:
        view, picture = divmod(number, len(pictures))
        height, width = pictures[picture].shape[:2]
        box, flip = centre_box(self.spec, height, width), False
        if view:
            boxes, flips = random_boxes(self.augment, 1, height, width, np.random.default_rng((self.seed, number)))
            left, top, right, bottom = boxes[0].tolist()
            box, flip = (left, top, min(right, width), min(bottom, height)), bool(flips[0])
        cut = np.asarray(Image.fromarray(pictures[picture]).resize(size, resample, box))
        return cut[:, ::-1] if flip else cut
