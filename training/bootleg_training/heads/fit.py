"""Training one head on kept features.

Shapes: B images, g patches along a side, K features of a patch, S side of the labels in training, C classes.
"""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from bootleg_bundle.errors import DivergedError
from bootleg_training.heads.model import build_head
from bootleg_training.heads.score import enlarge
from bootleg_training.probes.logistic import standardise
from bootleg_training.probes.pixel_head import SKIPPED
from bootleg_training.probes.steps import shuffled, warm_cosine
from bootleg_training.progress import meter

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from bootleg_training.heads.config import HeadConfig, Kind
    from bootleg_training.heads.model import SegmentationHead

RATES: dict[Kind, float] = {"linear": 1e-2, "layers": 2e-3}
CHECK_EVERY = 50
STANDARD_ROWS = 512
"""Images from which the features' means and deviations are taken."""


@dataclass(frozen=True)
class Lesson:
    """What a head is trained on.

    Attributes:
        features: ``[n, g, g, K]``.
        labels: uint8 ``[n, S, S]``, ignored pixels as ``ignore``.
        ignore: label of the pixels that do not count.
    """

    features: NDArray[np.floating]
    labels: NDArray[np.uint8]
    ignore: int | None


@dataclass(frozen=True)
class FitSettings:
    """How a head is trained.

    Attributes:
        iterations: batches.
        batch: crops.
        rate: peak learning rate of AdamW; None for the kind's own.
        decay: weight decay.
        warmup: share of the iterations; then cosine to zero.
        balance: 0 weighs every pixel alike, 1 every class alike (median frequency, Eigen and Fergus, 2015).
        seed: of the first weights and of the order.
    """

    iterations: int = 1500
    batch: int = 16
    rate: float | None = None
    decay: float = 1e-3
    warmup: float = 0.1
    balance: float = 0.5
    seed: int = 0


def fit_head(
    config: HeadConfig,
    encoder: tuple[int, int],
    lesson: Lesson,
    settings: FitSettings,
    device: torch.device,
    *,
    title: str,
) -> SegmentationHead:
    """Train a head.

    Args:
        config: its shape.
        encoder: its width and how many hidden layers it gives.
        lesson: features and labels.
        settings: of the training.
        device: that computes.
        title: of the progress display.

    Returns:
        The head in evaluation mode, for features as they are.

    Raises:
        DivergedError: the loss is no longer finite.
    """
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(settings.seed)
        head = build_head(config, *encoder).to(device)
    step = max(1, len(lesson.features) // STANDARD_ROWS)
    sample = torch.from_numpy(lesson.features[::step].astype(np.float32))
    mean_K, std_K = (figure.to(device) for figure in standardise(sample.flatten(0, 2)))
    weights_C = class_weights(lesson, len(config.classes), settings.balance).to(device)
    optimiser = torch.optim.AdamW(
        head.parameters(), lr=settings.rate or RATES[config.kind], weight_decay=settings.decay
    )
    schedule = warm_cosine(optimiser, settings.iterations, settings.warmup)
    generator = torch.Generator().manual_seed(settings.seed)
    batches = shuffled(torch.arange(len(lesson.labels)), settings.batch, generator)
    head.train()
    note = ""
    with meter(title, settings.iterations) as shown:
        for done, rows in enumerate(itertools.islice(batches, settings.iterations), start=1):
            x_BggK, truth_BSS = _batch(lesson, rows.numpy(), device)
            logits_BCSS = enlarge(head.decode((x_BggK - mean_K) / std_K), truth_BSS.shape[1:])
            loss = _loss(logits_BCSS, truth_BSS, weights_C)
            optimiser.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimiser.step()
            schedule.step()
            if done % CHECK_EVERY == 0 or done == settings.iterations:
                note = _note(float(loss.detach()), done)
            shown.update(done, note)
    head.absorb(mean_K, std_K)
    return head.eval()


def class_weights(lesson: Lesson, classes: int, balance: float) -> Tensor:
    """Weight of each class's pixels ``[C]``: (median share of a class / its share) to the power ``balance``."""
    counts = np.bincount(lesson.labels.ravel(), minlength=256)[:classes].astype(np.float64)
    if lesson.ignore is not None and lesson.ignore < classes:
        counts[lesson.ignore] = 0
    seen = counts > 0
    weights = np.ones(classes)
    weights[seen] = (np.median(counts[seen]) / counts[seen]) ** balance if seen.any() else 1.0
    return torch.from_numpy(weights.astype(np.float32))


def _note(loss: float, done: int) -> str:
    if not math.isfinite(loss):
        raise DivergedError(f"the head's loss is {loss} after {done} iterations")
    return f"loss {loss:.3f}"


def _batch(lesson: Lesson, rows: NDArray[np.int64], device: torch.device) -> tuple[Tensor, Tensor]:
    labels = lesson.labels[rows].astype(np.int64)
    if lesson.ignore is not None:
        labels[labels == lesson.ignore] = SKIPPED
    features = lesson.features[rows].astype(np.float32)
    return torch.from_numpy(features).to(device), torch.from_numpy(labels).to(device)


def _loss(logits_BCSS: Tensor, truth_BSS: Tensor, weights_C: Tensor) -> Tensor:
    """Weighted mean cross-entropy; 0 for a batch whose pixels are all ignored."""
    total = F.cross_entropy(logits_BCSS, truth_BSS, weights_C, ignore_index=SKIPPED, reduction="sum")
    counted = truth_BSS != SKIPPED
    weight = weights_C[truth_BSS.clamp_min(0)][counted].sum()
    return total / weight.clamp_min(1e-6)
