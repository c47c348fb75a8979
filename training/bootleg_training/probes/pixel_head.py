"""Linear segmentation head at pixel level: 1 x 1 convolution on the frozen patch map, upsampled bilinearly.

DINOv2's practice on cached tokens: no crops and no flips, and the batch norm in front of the convolution is the
standardisation by the whole training set, which is what a non-affine batch norm tends to. Nothing is chosen,
so the training part is used whole; the test part is read once.

Shapes: B images, S their side, g patches a side, N = g * g patches, D width, C classes.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from bootleg_training.probes.confusion import confusion, mean_iou
from bootleg_training.probes.segmentation import PatchSet, Segmentation
from bootleg_training.probes.steps import shuffled, warm_cosine
from bootleg_training.progress import meter

if TYPE_CHECKING:
    from bootleg_training.probes.scenes import Scenes

SKIPPED = -100
SCORE_BATCH = 8


@dataclass(frozen=True)
class HeadSettings:
    """How the head is trained: DINOv2 and DINOv3 take 40,000 iterations of 16 on large sets, at 512 pixels.

    Attributes:
        iterations: batches; 1,000 are 44 passes over 367 images.
        batch: images.
        rate: peak learning rate of AdamW. DINOv3 takes 1e-3 for its 40,000; 1,000 want more (CamVid's validation part:
            25.9 % mean IoU against 24.2 %).
        decay: weight decay.
        warmup: share of the iterations; then cosine to zero.
        seed: of the order.
    """

    iterations: int = 1000
    batch: int = 16
    rate: float = 1e-2
    decay: float = 1e-3
    warmup: float = 0.1
    seed: int = 0


DEFAULTS = HeadSettings()


class LinearHead(nn.Module):
    """Patch tokens to pixel logits."""

    def __init__(self, width: int, classes: int) -> None:
        super().__init__()
        self.classify = nn.Linear(width, classes)  # on channels-last tokens a linear map is the 1 x 1 convolution
        nn.init.zeros_(self.classify.weight)
        nn.init.zeros_(self.classify.bias)

    def forward(self, tokens_BND: Tensor, side: int) -> Tensor:
        """Logits ``[B, C, S, S]`` of standardised tokens."""
        B, N, _ = tokens_BND.shape
        grid = round(N**0.5)
        logits_BCgg = self.classify(tokens_BND).transpose(1, 2).reshape(B, -1, grid, grid)
        return F.interpolate(logits_BCgg, size=(side, side), mode="bilinear", align_corners=False)


def segment_pixels(
    train: tuple[PatchSet, Scenes], test: tuple[PatchSet, Scenes], settings: HeadSettings = DEFAULTS
) -> Segmentation:
    """Train the head on the training images and score it on the test images.

    Args:
        train: standardised patches and the masks they belong to.
        test: the same of the test part.
        settings: of the training.
    """
    patches, scenes = train
    device = patches.features.device
    head = LinearHead(patches.features.shape[2], patches.classes).to(device)
    optimiser = torch.optim.AdamW(head.parameters(), lr=settings.rate, weight_decay=settings.decay)
    schedule = warm_cosine(optimiser, settings.iterations, settings.warmup)
    generator = torch.Generator().manual_seed(settings.seed)
    batches = shuffled(torch.arange(len(scenes.masks)), settings.batch, generator)
    with meter("pixel head", settings.iterations) as shown:
        for done, rows in enumerate(itertools.islice(batches, settings.iterations), start=1):
            truth_BSS = _truth(scenes, rows).to(device)
            logits_BCSS = head(patches.features[rows.to(device)], truth_BSS.shape[1])
            pixels = (truth_BSS != SKIPPED).sum().clamp_min(1)  # a batch may hold ignored pixels alone
            loss = F.cross_entropy(logits_BCSS, truth_BSS, ignore_index=SKIPPED, reduction="sum") / pixels
            optimiser.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimiser.step()
            schedule.step()
            shown.update(done)
    return Segmentation(_score(head, *test), f"{settings.iterations:,} iterations of {min(settings.batch, len(rows))}")


def _truth(scenes: Scenes, rows: Tensor) -> Tensor:
    """Labels int64 ``[B, S, S]``, ignored pixels as ``SKIPPED``."""
    labels = scenes.masks[rows.numpy()].astype(np.int64)
    if scenes.ignore is not None:
        labels[labels == scenes.ignore] = SKIPPED
    return torch.from_numpy(labels)


@torch.no_grad()
def _score(head: LinearHead, patches: PatchSet, scenes: Scenes) -> float:
    matrix = np.zeros((patches.classes, patches.classes), np.int64)
    for rows in torch.split(torch.arange(len(scenes.masks)), SCORE_BATCH):
        truth = scenes.masks[rows.numpy()]
        predicted = head(patches.features[rows.to(patches.features.device)], truth.shape[1]).argmax(dim=1)
        matrix += confusion(truth, predicted.cpu().numpy(), patches.classes, ignore=scenes.ignore)
    return mean_iou(matrix)
