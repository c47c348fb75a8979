"""The classification probes by name: which features each needs, and how it is scored and described."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal

import numpy as np
import torch

from bootleg_training.probes.attentive import DEFAULTS, AttentiveSettings, Tokens, attentive_probe
from bootleg_training.probes.knn import knn_probe
from bootleg_training.probes.linear import linear_probe

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray
    from torch import Tensor

    from bootleg_training.probes.features import Kind as FeatureKind

    Features = Mapping[FeatureKind, NDArray[np.floating]]

Kind = Literal["knn", "linear", "linear-last4", "attentive"]
Pooled = Literal["knn", "linear"]
POOLED: tuple[Pooled, ...] = ("knn", "linear")
KINDS: tuple[Kind, ...] = ("knn", "linear", "linear-last4", "attentive")
NEEDS: dict[Kind, FeatureKind] = {"knn": "mean", "linear": "mean", "linear-last4": "last4", "attentive": "patches"}
LAST4 = "mean patch token of each of the last four blocks, all behind the final norm"


@dataclass(frozen=True)
class Score:
    """One accuracy, and in words how it was come by and from what."""

    accuracy: float
    detail: str
    features: str = "mean patch token"


@dataclass(frozen=True)
class Labelled:
    """Features by kind, ``[n, ...]``, and int64 labels ``[n]``."""

    features: Features
    labels: Tensor

    def tensor(self, kind: FeatureKind, device: torch.device) -> Tensor:
        """Features of a kind, in memory."""
        return torch.from_numpy(np.array(self.features[kind])).to(device)


def score(
    kind: Kind, train: Labelled, test: Labelled, device: torch.device, attentive: AttentiveSettings = DEFAULTS
) -> Score:
    """Learn from ``train`` and read ``test`` once.

    Args:
        kind: the probe; ``train`` and ``test`` hold the features of ``NEEDS[kind]``.
        train: features and labels to learn from, and to choose by.
        test: features and labels to score on.
        device: that computes.
        attentive: how the attentive probe is trained; see its settings.

    Raises:
        DataError: fewer than two training images.
    """
    if kind == "attentive":
        tokens, test_tokens = (Tokens(side.features["patches"], side.labels) for side in (train, test))
        found = attentive_probe(tokens, test_tokens, attentive, device=device)
        chosen = f"lr {found.rate:g} x batch / 256, weight decay {found.decay:g}"
        return Score(found.accuracy, f"one query, no crops, {found.iterations:,} iterations; {chosen}", "patch tokens")
    x, x_test = (side.tensor(NEEDS[kind], device) for side in (train, test))
    pooled = score_pooled("knn" if kind == "knn" else "linear", x, train.labels, x_test, test.labels)
    return replace(pooled, features=LAST4) if kind == "linear-last4" else pooled


def score_blocks(train: Labelled, test: Labelled, device: torch.device) -> dict[str, Score]:
    """k-NN and linear accuracy of each block's mean patch token, by name, the first block first."""
    x_BLD, x_test_BLD = train.tensor("blocks", device), test.tensor("blocks", device)
    scores: dict[str, Score] = {}
    for kind in POOLED:
        for block in range(x_BLD.shape[1]):
            found = score_pooled(kind, x_BLD[:, block], train.labels, x_test_BLD[:, block], test.labels)
            features = f"mean patch token of block {block + 1} behind the final norm"
            scores[f"{kind}-block-{block + 1}"] = replace(found, features=features)
    return scores


def score_pooled(kind: Pooled, x: Tensor, y: Tensor, x_test: Tensor, y_test: Tensor) -> Score:
    """k-NN or a linear probe on one vector an image, ``[n, D]``."""
    y, y_test = y.to(x.device), y_test.to(x.device)
    if kind == "knn":
        near = knn_probe(x, y, x_test, y_test)
        best = f"k = {near.chosen_k} chosen on a held-out tenth: {near.chosen_accuracy:.4f}"
        return Score(near.accuracy, f"k = 20, cosine, temperature 0.07 ({best})")
    line = linear_probe(x, y, x_test, y_test)
    return Score(line.accuracy, f"logistic regression, l2 = {line.l2:g}")
