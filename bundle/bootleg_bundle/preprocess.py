"""Preprocessing as data: a specification with a hash, and the one function that applies it.

Training evaluation, probes, export and the service call :func:`apply`, so that the pixels an
encoder was evaluated on are the pixels it is served. Normalisation is part of the specification
but happens inside the exported graph: this module's output is always ``uint8``.
"""

from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING, Annotated, Literal

import numpy as np
from PIL import Image
from pydantic import BaseModel, ConfigDict, Field

from bootleg_bundle.images import DECODER_VERSION

if TYPE_CHECKING:
    from numpy.typing import NDArray

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)

Positive = Annotated[float, Field(gt=0)]


class PreprocessSpec(BaseModel):
    """How an upright RGB image becomes the encoder's input, to the last detail.

    The centre box with the input's aspect ratio, ``crop_ratio`` of the largest that fits, is
    resampled to ``height`` x ``width`` in one step by Pillow's antialiased filter; the graph then
    computes ``(pixels / 255 - mean) / std`` per channel.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    version: Literal[1] = 1
    decoder_version: Literal[1] = DECODER_VERSION
    height: int = Field(ge=8, le=4096, description="pixels")
    width: int = Field(ge=8, le=4096, description="pixels")
    crop_ratio: float = Field(1.0, gt=0, le=1, description="kept share of the largest centre box's sides")
    resample: Literal["bicubic", "bilinear"] = "bicubic"
    mean: tuple[float, float, float] = Field(IMAGENET_MEAN, description="of pixels / 255, per channel")
    std: tuple[Positive, Positive, Positive] = Field(IMAGENET_STD, description="of pixels / 255, per channel")

    @property
    def hash(self) -> str:
        """SHA-256, in hexadecimal, of the specification in canonical JSON."""
        canonical = json.dumps(self.model_dump(mode="json"), sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(canonical.encode()).hexdigest()


def apply(spec: PreprocessSpec, rgb: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Crop and resample one image.

    Args:
        spec: the specification of the bundle or checkpoint.
        rgb: upright ``uint8`` image ``[h, w, 3]`` of any size, as :func:`bootleg_bundle.images.decode` gives.

    Returns:
        ``uint8`` array ``[spec.height, spec.width, 3]``.
    """
    assert rgb.ndim == 3, f"an RGB image [h, w, 3] is expected, got shape {rgb.shape}"
    box = centre_box(spec, rgb.shape[0], rgb.shape[1])
    if box == (0.0, 0.0, float(spec.width), float(spec.height)) and rgb.shape[:2] == (spec.height, spec.width):
        return rgb
    resample = Image.Resampling.BICUBIC if spec.resample == "bicubic" else Image.Resampling.BILINEAR
    resized = Image.fromarray(rgb).resize((spec.width, spec.height), resample, box=box)
    return np.asarray(resized, dtype=np.uint8)


def centre_box(spec: PreprocessSpec, height: int, width: int) -> tuple[float, float, float, float]:
    """Left, top, right and bottom, in pixels, of the part that :func:`apply` keeps of an upright image."""
    scale = spec.crop_ratio * min(height / spec.height, width / spec.width)
    # At some sides (225 to 224) rounding makes the box a hair larger than the image, which Pillow refuses.
    box_h, box_w = min(height, scale * spec.height), min(width, scale * spec.width)
    left, top = (width - box_w) / 2, (height - box_h) / 2
    return left, top, left + box_w, top + box_h
