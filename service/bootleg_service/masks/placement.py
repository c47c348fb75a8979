"""Where a mask lies in the upright photograph, and scores brought to its size.

The encoder sees a centre box of the image. At ``original`` size what lies outside the box is ``UNSEEN``: no label is
made up for it. Scores are interpolated bilinearly and then compared, so that borders are smooth; labels never are.

Shapes: C labels, gh x gw the grid of the scores, h x w the mask.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Literal

import numpy as np

from bootleg_bundle.preprocess import centre_box

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from bootleg_bundle.preprocess import PreprocessSpec

MaskSize = Literal["grid", "input", "original"]

UNSEEN: Final = 255
MAX_LABELS: Final = UNSEEN
BLOCK: Final = 2**20
"""Pixels that are interpolated at a time: a few megabytes, whatever the mask's size."""


@dataclass(frozen=True)
class Placement:
    """One mask's place.

    Attributes:
        image: height and width of the upright image, in pixels.
        box: left, top, right and bottom of what the encoder saw, in pixels of the upright image.
        size: height and width of the mask.
        window: left, top, right and bottom of the box in pixels of the mask.
    """

    image: tuple[int, int]
    box: tuple[float, float, float, float]
    size: tuple[int, int]
    window: tuple[float, float, float, float]


def place(spec: PreprocessSpec, image: tuple[int, int], size: MaskSize, grid: tuple[int, int]) -> Placement:
    """Place the mask of an upright ``image`` (height, width), with scores on ``grid``."""
    box = centre_box(spec, *image)
    if size == "original":
        return Placement(image, box, image, box)
    height, width = (spec.height, spec.width) if size == "input" else grid
    return Placement(image, box, (height, width), (0.0, 0.0, float(width), float(height)))


def label_map(scores: NDArray[np.float32], placement: Placement) -> NDArray[np.uint8]:
    """The best label of each pixel.

    Args:
        scores: ``[C, gh, gw]``, C at most ``MAX_LABELS``.
        placement: of the mask.

    Returns:
        uint8 ``[h, w]``: 0 to C - 1, ``UNSEEN`` outside the window. Of equal scores the lowest label wins.
    """
    height, width = placement.size
    left, top, right, bottom = placement.window
    first_row, rows = _weights(top, bottom, height, scores.shape[1])
    first_column, columns = _weights(left, right, width, scores.shape[2])
    inside = np.zeros((len(rows), len(columns)), np.uint8)
    rivals = _rivals(scores)
    step = max(1, BLOCK // len(columns))
    for row in range(0, len(rows), step):
        labels = inside[row : row + step]
        best = np.full(labels.shape, -np.inf, np.float32)
        for label in rivals:
            score = rows[row : row + step] @ scores[label] @ columns.T
            np.putmask(labels, score > best, label)
            np.maximum(best, score, out=best)
    whole = np.full((height, width), UNSEEN, np.uint8)
    whole[first_row : first_row + len(rows), first_column : first_column + len(columns)] = inside
    return whole


def _weights(start: float, stop: float, pixels: int, cells: int) -> tuple[int, NDArray[np.float32]]:
    """The first pixel whose centre is in ``[start, stop)``, and each one's shares ``[n, cells]`` of the cells."""
    first, end = max(0, math.ceil(start - 0.5)), min(pixels, math.ceil(stop - 0.5))
    if end <= first:  # the box of a very long image may be thinner than a pixel and miss every centre
        first = min(pixels - 1, int((start + stop) / 2))
        end = first + 1
    at = (np.arange(first, end) + 0.5 - start) / (stop - start) * cells - 0.5
    at = np.clip(at, 0, cells - 1)
    low = np.minimum(at.astype(int), max(0, cells - 2))
    weights = np.zeros((len(at), cells), np.float32)
    every = np.arange(len(at))
    weights[every, low] = 1 - (at - low)
    weights[every, np.minimum(low + 1, cells - 1)] += at - low
    return first, weights


def _rivals(scores: NDArray[np.float32]) -> list[int]:
    """Labels that can be the best somewhere. Exact: within a cell of the grid a score is between those of its corners.

    Of a head with many classes, few appear in one image; the others need not be interpolated.
    """
    high, low = (_over_cells(scores, reduce) for reduce in (np.maximum, np.minimum))
    possible = high >= low.max(axis=0)
    return np.flatnonzero(possible.any(axis=(1, 2))).tolist()


def _over_cells(scores: NDArray[np.float32], reduce: np.ufunc) -> NDArray[np.float32]:
    """The extreme of each cell's four corners; a grid one cell wide is its own corner."""
    for axis in (1, 2):
        if scores.shape[axis] > 1:
            stop = scores.shape[axis]
            scores = reduce(scores.take(range(stop - 1), axis), scores.take(range(1, stop), axis))
    return scores
