"""Channel mean and standard deviation, exact: pixels are counted by value, in integers."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Channels = tuple[float, float, float]


def histogram(picture: NDArray[np.uint8]) -> NDArray[np.int64]:
    """How often each value occurs in each channel of an RGB picture: int64 ``[3, 256]``."""
    # Pillow's loop is in C and four times as fast as numpy.bincount: 0.13 ms at 224 pixels.
    return np.array(Image.fromarray(picture).histogram(), np.int64).reshape(3, 256)


def mean_and_std(counts: NDArray[np.int64]) -> tuple[Channels, Channels]:
    """Mean and population standard deviation of pixels / 255, from summed histograms ``[3, 256]``.

    Python's integers hold the sums, so that the one rounding is the last division.
    """
    mean, std = [], []
    for channel in counts.tolist():
        pixels = sum(channel)
        total = sum(value * count for value, count in enumerate(channel))
        squares = sum(value * value * count for value, count in enumerate(channel))
        mean.append(total / (255 * pixels))
        std.append(math.sqrt(pixels * squares - total * total) / (255 * pixels))
    return (mean[0], mean[1], mean[2]), (std[0], std[1], std[2])
