"""Labelled images on which precisions are compared: some to learn from, others to score on.

Build and verify open them with what the user named; :mod:`bootleg_export.tasks` embeds them. No image is on both sides.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch

from bootleg_bundle.errors import DataError
from bootleg_training.data.decode import open_data
from bootleg_training.probes.features import pixels_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    from bootleg_bundle.preprocess import PreprocessSpec
    from bootleg_training.data.pack import Pack

MAX_IMAGES = 10_000
"""Of each side. Precisions that disagree on 2 % of so many images differ by 0.14 points by chance."""

FEWEST_SCORED = 200
"""With fewer images to score on, a single one is more than the half point that may be lost."""


@dataclass(frozen=True)
class Side:
    """Some images of a data set, by number."""

    data: Pack
    chosen: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.chosen)

    @property
    def labels(self) -> torch.Tensor:
        """int64 ``[images]``."""
        assert self.data.labels is not None
        return torch.from_numpy(self.data.labels[self.chosen])

    def batches(self, spec: PreprocessSpec, size: int) -> Iterator[NDArray[np.uint8]]:
        """The images in order, as the encoder takes them: uint8 ``[up to size, H, W, 3]``."""
        for start in range(0, len(self), size):
            yield pixels_of(spec, self.data.images[self.chosen[start : start + size]])


@dataclass(frozen=True)
class LabelledData:
    """Images to learn from, and images to score on."""

    train: Side
    test: Side


def open_labelled(spec: PreprocessSpec, train: str, test: str | None = None) -> LabelledData:
    """Open labelled data; the same sources give the same images every time.

    Args:
        spec: of the encoder.
        train: a pack or a source with labels.
        test: another; None holds out a fifth of ``train``.

    Raises:
        DataError: it cannot be opened, has no labels or too few images, or the two have other classes.
    """
    first, second = _open(train, spec), _open(test or train, spec)
    if first.classes != second.classes:
        raise DataError(f"{train} and {test} do not have the same classes")
    rng = np.random.default_rng(0)
    learn, scored = (rng.permutation(len(data.images)) for data in (first, second))
    if test is None:
        scored, learn = learn[: len(learn) // 5], learn[len(learn) // 5 :]
    if len(scored) < FEWEST_SCORED:
        raise DataError(f"{test or train}: {len(scored)} images to score on; at least {FEWEST_SCORED} are needed")
    return LabelledData(_some(first, learn), _some(second, scored))


def _open(name: str, spec: PreprocessSpec) -> Pack:
    data = open_data(name, spec.height)
    if data.labels is None:
        raise DataError(f"{name} has no labels: a folder for each class, or a list with a label column, gives them")
    return data


def _some(data: Pack, order: NDArray[np.int64]) -> Side:
    return Side(data, np.sort(order[:MAX_IMAGES]))
