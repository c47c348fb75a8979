"""Random resized crop and flip of a whole batch on its device, as two matrix products an image.

Resampling is linear in the pixels and separable, so each image's crop is a pair of interpolation
matrices. Their rows hold Pillow's antialiased bicubic kernel: a test pins the result to
``Image.resize(box=...)``. Reads 8-bit images, returns normalised float32.

Shapes: B images, H and W source sides, S output side, C channels.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

if TYPE_CHECKING:
    from bootleg_training.config import AugmentConfig

CROP_TRIES = 10


def random_boxes(
    config: AugmentConfig, batch: int, height: int, width: int, rng: np.random.Generator
) -> tuple[Tensor, Tensor]:
    """Draw crop boxes, in the customary way: uniform area, log-uniform aspect.

    Returns:
        float64 boxes ``[B, 4]`` as left, top, right, bottom in pixels, and bool flips ``[B]``.
    """
    area = height * width * rng.uniform(*config.scale, size=(CROP_TRIES, batch))
    narrowest, widest = np.log(config.aspect)
    aspect = np.exp(rng.uniform(narrowest, widest, size=(CROP_TRIES, batch)))
    box_w, box_h = np.sqrt(area * aspect), np.sqrt(area / aspect)
    fits = (box_w <= width) & (box_h <= height)
    first = fits.argmax(axis=0)
    some = fits.any(axis=0)
    pick = np.arange(batch)
    w = np.where(some, box_w[first, pick], width)
    h = np.where(some, box_h[first, pick], height)
    left = rng.uniform(size=batch) * (width - w)
    top = rng.uniform(size=batch) * (height - h)
    flips = config.flip & (rng.random(batch) < 0.5)
    boxes = np.stack([left, top, left + w, top + h], axis=1)
    return torch.from_numpy(boxes), torch.from_numpy(flips)


def crop_and_normalise(
    images_BHWC: Tensor,
    boxes_B4: Tensor,
    flips_B: Tensor,
    size: int,
    mean: tuple[float, float, float],
    std: tuple[float, float, float],
) -> Tensor:
    """Resample each image's box to ``size`` and normalise.

    Args:
        images_BHWC: uint8 ``[B, H, W, 3]``.
        boxes_B4: left, top, right, bottom in pixels; on the images' device, as everything here.
        flips_B: images to mirror.
        size: output side S.
        mean: of pixels / 255, a channel each.
        std: of pixels / 255, a channel each.

    Returns:
        float32 ``[B, S, S, 3]``.
    """
    B, H, W, C = images_BHWC.shape
    rows_BSH = interpolation(boxes_B4[:, 1], boxes_B4[:, 3], H, size)
    columns_BSW = interpolation(boxes_B4[:, 0], boxes_B4[:, 2], W, size)
    columns_BSW = torch.where(flips_B[:, None, None], columns_BSW.flip(1), columns_BSW)
    x = torch.bmm(rows_BSH, images_BHWC.reshape(B, H, W * C).float())  # [B, S, W * C]
    x = x.view(B, size, W, C).transpose(1, 2).reshape(B, W, size * C)
    x = torch.bmm(columns_BSW, x).view(B, size, size, C).transpose(1, 2)
    x = x.clamp_(0, 255)  # bicubic overshoots; Pillow clips too
    offset, scale = (torch.cat([x.new_full((1,), number) for number in three]) for three in (mean, std))
    return (x / 255 - offset) / scale


def interpolation(start_B: Tensor, stop_B: Tensor, source: int, size: int) -> Tensor:
    """Rows of Pillow's antialiased bicubic kernel (a = -0.5): float32 ``[B, size, source]``."""
    scale_B11 = ((stop_B - start_B) / size)[:, None, None]
    stretch = scale_B11.clamp_min(1.0)
    out_S, in_W = (torch.arange(n, dtype=torch.float64, device=start_B.device) + 0.5 for n in (size, source))
    centre_BS1 = start_B[:, None, None] + out_S[None, :, None] * scale_B11
    distance = ((in_W - centre_BS1) / stretch).abs()
    near = (1.5 * distance - 2.5) * distance**2 + 1
    far = ((-0.5 * distance + 2.5) * distance - 4) * distance + 2
    weight = torch.where(distance < 1, near, torch.where(distance < 2, far, 0.0))
    return (weight / weight.sum(dim=2, keepdim=True)).float()
