"""Patch-level segmentation of frozen tokens, by k-NN and by logistic regression (CAPI's protocol).

A patch's label is the most frequent label of its pixels; its prediction is copied to all of them. What is
chosen is chosen on a tenth of the training **images**, then fitted to all of them. The test part is read once.

Shapes: n images, N patches of an image, D width of a feature, C classes, P patches that are learnt from,
Q patches that are asked for.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from bootleg_bundle.errors import DataError
from bootleg_training.probes.confusion import mean_iou
from bootleg_training.probes.logistic import fit_logistic, predict, standardise
from bootleg_training.probes.split import held_out_tenth
from bootleg_training.progress import track

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from bootleg_training.probes.scenes import Scenes

KS = (1, 3, 10, 30)
METRICS = ("cosine", "l2")
C_GRID = tuple(np.logspace(-6, 5, 8).tolist())
ITERATIONS = 1000
TOLERANCE = 1e-4
"""Largest gradient of the mean loss at which L-BFGS stops, as in scikit-learn. On CamVid 3e-5 costs three times as much
and moves mean IoU by 0.001. The weakest penalties then stop where the last one ended."""
CELLS = 2**25
"""Similarities held at once: 128 MB of float32."""


@dataclass(frozen=True)
class Segmentation:
    """Result of a segmentation probe; ``chosen`` names the hyperparameters."""

    miou: float
    chosen: str


@dataclass(frozen=True)
class PatchSet:
    """Features and labels of the patches of a segmentation set.

    Attributes:
        features: float32 ``[n, N, D]``, standardised.
        counts: int32 ``[n, N, C + 1]``, pixels of each label in each patch; the last column is the ignored label.
    """

    features: Tensor
    counts: Tensor

    @property
    def labels(self) -> Tensor:
        """The most frequent label of each patch, ``[n, N]``, the lowest of equals; C where it is the ignored one."""
        return self.counts.argmax(dim=2)

    @property
    def classes(self) -> int:
        """C."""
        return self.counts.shape[2] - 1

    def rows(self, images: Tensor) -> PatchSet:
        """The given images only."""
        return PatchSet(self.features[images.to(self.features.device)], self.counts[images])

    def learnable(self) -> tuple[Tensor, Tensor]:
        """Features ``[P, D]`` and labels ``[P]`` of the patches whose label is not ignored.

        Raises:
            DataError: there is none.
        """
        labels = self.labels.flatten()
        kept = labels < self.classes
        if not kept.any():
            raise DataError("no patch of the training images has a label: every one is ignored")
        device = self.features.device
        return self.features.flatten(0, 1)[kept.to(device)], labels[kept].to(device)

    def score(self, predicted_Q: Tensor) -> float:
        """Mean IoU over pixels when every pixel takes its patch's prediction ``[n * N]``."""
        counts_QC = self.counts.flatten(0, 1)[:, : self.classes].long()
        matrix = torch.zeros(self.classes, self.classes, dtype=torch.int64)
        matrix.index_add_(0, predicted_Q.cpu(), counts_QC)  # by prediction, then by truth
        return mean_iou(matrix.T.numpy())


def label_counts(scenes: Scenes, grid: int) -> Tensor:
    """Pixels of each label in each patch of a ``grid`` x ``grid`` cut, int32 ``[n, N, C + 1]``, ignored ones last."""
    n, side, _ = scenes.masks.shape
    patch, width = side // grid, scenes.classes + 1
    assert grid * patch == side, f"{side} pixels are no multiple of {grid} patches"
    counts = np.empty((n, grid * grid, width), np.int32)
    offsets_NP = np.arange(grid * grid)[:, None] * width
    for image, mask in enumerate(scenes.masks):
        labels = mask.astype(np.int64)
        if scenes.ignore is not None:
            labels[mask == scenes.ignore] = scenes.classes
        labels_NP = labels.reshape(grid, patch, grid, patch).swapaxes(1, 2).reshape(grid * grid, -1)
        flat = np.bincount((labels_NP + offsets_NP).ravel(), minlength=grid * grid * width)
        counts[image] = flat.reshape(grid * grid, width)
    return torch.from_numpy(counts)


def patch_sets(
    train: tuple[NDArray[np.floating], Scenes], test: tuple[NDArray[np.floating], Scenes], device: torch.device
) -> tuple[PatchSet, PatchSet]:
    """Pair features ``[n, N, D]`` with labels; the training features' mean and deviation standardise both."""
    x_train, x_test = (torch.from_numpy(x.astype(np.float32)).to(device) for x, _ in (train, test))
    mean, std = standardise(x_train.flatten(0, 1))
    grid = round(x_train.shape[1] ** 0.5)
    return (
        PatchSet((x_train - mean) / std, label_counts(train[1], grid)),
        PatchSet((x_test - mean) / std, label_counts(test[1], grid)),
    )


def segment_knn(train: PatchSet, test: PatchSet, *, seed: int = 0) -> Segmentation:
    """Nearest patches, by cosine or Euclidean distance, with one vote each."""
    held, kept = held_out_tenth(len(train.features), seed)
    fitted, asked = train.rows(kept), train.rows(held)
    scores: dict[tuple[str, int], float] = {}
    for metric in METRICS:
        found = nearest_labels(fitted, asked, metric, max(KS), "k-NN segmentation, choose")
        scores |= {(metric, k): asked.score(vote(found, k, train.classes)) for k in KS}
    metric, k = max(itertools.product(METRICS, KS), key=scores.__getitem__)
    found = nearest_labels(train, test, metric, k, "k-NN segmentation, test")
    return Segmentation(test.score(vote(found, k, train.classes)), f"k = {k}, {metric}")


def segment_logistic(train: PatchSet, test: PatchSet, *, seed: int = 0) -> Segmentation:
    """Logistic regression; ``C`` is scikit-learn's, the inverse of the penalty on a sum of losses."""
    held, kept = held_out_tenth(len(train.features), seed)
    x, y = train.rows(kept).learnable()
    asked = train.rows(held)
    questions = asked.features.flatten(0, 1)
    scores: dict[float, float] = {}
    starts: dict[float, Tensor] = {}
    weights = None  # from strong to weak penalty, each from where the last one ended
    for c in track(C_GRID, len(C_GRID), "linear segmentation"):
        weights = _fit(x, y, train.classes, c, weights)
        scores[c], starts[c] = asked.score(predict(weights, questions)), weights
    best = max(C_GRID, key=scores.__getitem__)
    final = _fit(*train.learnable(), train.classes, best, starts[best])
    return Segmentation(test.score(predict(final, test.features.flatten(0, 1))), f"C = {best:.3g}")


def _fit(x_PD: Tensor, y_P: Tensor, classes: int, c: float, start: Tensor | None) -> Tensor:
    l2 = 1 / (c * len(x_PD))
    return fit_logistic(x_PD, y_P, classes, l2, iterations=ITERATIONS, tolerance=TOLERANCE, start=start)


def nearest_labels(bank: PatchSet, asked: PatchSet, metric: str, k: int, title: str) -> Tensor:
    """Labels of the ``k`` nearest bank patches of each patch asked for, nearest first, ``[Q, k]``."""
    x_PD, labels_P = bank.learnable()
    q_QD = asked.features.flatten(0, 1)
    if metric == "cosine":
        x_PD, q_QD = F.normalize(x_PD, dim=1), F.normalize(q_QD, dim=1)
        offset_P = torch.zeros(len(x_PD), device=x_PD.device)
    else:  # the nearest x has the largest q x - x x / 2: the query's own norm changes no order
        offset_P = -x_PD.square().sum(dim=1) / 2
    parts = torch.split(q_QD, max(1, CELLS // len(x_PD)))
    k = min(k, len(x_PD))
    found = [
        labels_P[torch.addmm(offset_P, part, x_PD.T).topk(k, dim=1).indices] for part in track(parts, len(parts), title)
    ]
    return torch.cat(found)


def vote(labels_QK: Tensor, k: int, classes: int) -> Tensor:
    """The most frequent of the first ``k`` labels of each row, the lowest of equals, ``[Q]``."""
    votes = torch.zeros(len(labels_QK), classes, device=labels_QK.device)
    first = labels_QK[:, :k]
    return votes.scatter_add_(1, first, torch.ones_like(first, dtype=votes.dtype)).argmax(dim=1)
