"""Real images for an export: some set the ranges of int8, others judge every precision.

Build calls it with what the user named: a pack, or any source of images. The same source always gives the same images.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np

from bootleg_bundle.errors import DataError
from bootleg_bundle.manifest import Calibration
from bootleg_training.data.decode import open_data
from bootleg_training.probes.features import pixels_of

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from bootleg_bundle.preprocess import PreprocessSpec

Operator = Literal["linear", "attention"]

RANGE_IMAGES = 256
JUDGED_IMAGES = 64
FEWEST = 16


@dataclass(frozen=True)
class CalibrationImages:
    """Images of one source, as the encoder takes them.

    Attributes:
        ranges: uint8 ``[n, H, W, 3]`` that set the ranges.
        judged: uint8 ``[m, H, W, 3]``, none of them among ``ranges``.
        record: for the manifest.
    """

    ranges: NDArray[np.uint8]
    judged: NDArray[np.uint8]
    record: Calibration


def read_calibration(
    source: str, spec: PreprocessSpec, operators: tuple[Operator, ...] = ("linear",)
) -> CalibrationImages:
    """Draw images from a pack or a source, for a graph with these ``operators`` in 8 bits.

    Raises:
        DataError: it cannot be opened, or holds fewer than ``FEWEST`` images.
    """
    data = open_data(source, spec.height)
    count = len(data.images)
    if count < FEWEST:
        raise DataError(f"calibration: {source} holds {count} images; at least {FEWEST} are needed")
    judged = min(JUDGED_IMAGES, count // 4)
    ranges = min(RANGE_IMAGES, count - judged)
    drawn = np.random.default_rng(0).permutation(count)[: ranges + judged]
    pixels = pixels_of(spec, data.images[np.sort(drawn[:ranges])])
    others = pixels_of(spec, data.images[np.sort(drawn[ranges:])])
    return CalibrationImages(
        pixels,
        others,
        Calibration(dataset=data.name, images=ranges, fingerprint=data.fingerprint, operators=operators),
    )
