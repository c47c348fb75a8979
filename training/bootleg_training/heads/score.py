"""Counting what a head gets right, at the resolution of the masks; training enlarges its logits the same way.

Shapes: B images, g patches along a side, K features of a patch, C classes, h and w sides of the logits.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from bootleg_training.probes.confusion import confusion

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from numpy.typing import NDArray

    from bootleg_training.heads.model import SegmentationHead


@torch.no_grad()
def count_pixels(
    head: SegmentationHead,
    features: NDArray[np.floating],
    masks: Sequence[NDArray[np.uint8]],
    *,
    classes: int,
    ignore: int | None,
) -> NDArray[np.int64]:
    """Confusion matrix of a head over masks of any resolution, as the service would answer at that resolution.

    Args:
        head: trained.
        features: ``[n, g, g, K]``.
        masks: n label maps ``[h, w]``.
        classes: C.
        ignore: label of the pixels that do not count.
    """
    device = head.project.weight.device
    inputs = (torch.from_numpy(row.astype(np.float32))[None].to(device) for row in features)
    return count_logits((head.decode(x_1ggK) for x_1ggK in inputs), masks, classes=classes, ignore=ignore)


def count_logits(
    logits: Iterable[Tensor], masks: Sequence[NDArray[np.uint8]], *, classes: int, ignore: int | None
) -> NDArray[np.int64]:
    """The same of logits ``[1, C, h, w]``, one for each mask, whatever computed them."""
    matrix = np.zeros((classes, classes), np.int64)
    for logits_1Chw, mask in zip(logits, masks, strict=True):
        predicted = enlarge(logits_1Chw, mask.shape)[0].argmax(dim=0)
        matrix += confusion(mask, predicted.cpu().numpy(), classes, ignore=ignore)
    return matrix


def enlarge(logits_BChw: Tensor, size: Sequence[int]) -> Tensor:
    """Interpolate logits ``[B, C, h, w]`` bilinearly, as the service does before it takes the largest."""
    return F.interpolate(logits_BChw, size=tuple(size), mode="bilinear", align_corners=False)
