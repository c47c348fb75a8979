"""A head on one frozen encoder: features kept, one candidate trained for each class balance, the best one examined.

The validation part chooses, by mean IoU, the first of equals; the test part is scored once, by the chosen head.
"""

from __future__ import annotations

import dataclasses
import math
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from bootleg_training.heads.fit import Lesson, fit_head
from bootleg_training.heads.model import build_head
from bootleg_training.heads.score import count_pixels
from bootleg_training.heads.tokens import Precision, keep_features
from bootleg_training.probes.confusion import class_iou, mean_iou

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from bootleg_training.heads.config import HeadConfig
    from bootleg_training.heads.crops import Crops
    from bootleg_training.heads.labelled import Labelled
    from bootleg_training.heads.model import SegmentationHead
    from bootleg_training.heads.settings import HeadSettings
    from bootleg_training.heads.tokens import Cut, Frozen


@dataclass(frozen=True)
class Outcome:
    """A trained head.

    Attributes:
        head: on the CPU, in evaluation mode.
        balance: the class balance that was chosen.
        validation: mean IoU by which it was chosen.
        matrix: confusion matrix of the test part.
    """

    head: SegmentationHead
    balance: float
    validation: float
    matrix: NDArray[np.int64]

    @property
    def miou(self) -> float:
        """Mean IoU on the test part."""
        return round(mean_iou(self.matrix), 4)

    @property
    def class_iou(self) -> list[float | None]:
        """IoU of each class on the test part; None where it is neither there nor predicted."""
        return [None if math.isnan(score) else round(score, 4) for score in class_iou(self.matrix).tolist()]


def choose_head(
    config: HeadConfig,
    frozen: Frozen,
    crops: Crops,
    exams: tuple[Labelled, Labelled],
    settings: HeadSettings,
    *,
    title: str,
) -> Outcome:
    """Train candidates on crops and choose one.

    Args:
        config: the head's shape.
        frozen: the encoder.
        crops: to learn from.
        exams: the validation part and the test part.
        settings: candidates and training.
        title: what progress calls the encoder.
    """
    device = next(frozen.encoder.parameters()).device
    shape = frozen.encoder.config.width, len(frozen.layers)
    val, test = exams
    with tempfile.TemporaryDirectory(prefix="bootleg-head-") as folder:
        reader = _Reader(Path(folder), config, frozen, build_head(config, *shape).to(device), title)
        lesson = Lesson(
            reader.read("crops", crops.images, len(crops), settings.precision),
            crops.labels(),
            settings.ignore,
        )
        val_features = reader.exam("val", val)
        scored: list[tuple[float, float, SegmentationHead]] = []
        for balance in settings.balances:
            fit = dataclasses.replace(settings.fit, balance=balance)
            head = fit_head(config, shape, lesson, fit, device, title=f"{title}, class balance {balance:g}")
            matrix = count_pixels(head, val_features, val.masks, classes=val.classes, ignore=settings.ignore)
            scored.append((mean_iou(matrix), balance, head))
        validation, balance, head = max(scored, key=lambda candidate: candidate[0])
        matrix = count_pixels(head, reader.exam("test", test), test.masks, classes=test.classes, ignore=settings.ignore)
    return Outcome(head.cpu(), balance, round(validation, 4), matrix)


@dataclass(frozen=True)
class _Reader:
    """Keeps features of one encoder in a folder."""

    folder: Path
    config: HeadConfig
    frozen: Frozen
    head: SegmentationHead
    title: str

    def read(self, name: str, cut: Cut, count: int, precision: Precision) -> NDArray[np.floating]:
        return keep_features(
            self.folder / f"{name}.npy",
            self.frozen,
            self.head,
            self.config.input,
            (cut, count),
            precision=precision,
            title=f"{self.title}, tokens of {name}",
        )

    def exam(self, name: str, part: Labelled) -> NDArray[np.floating]:
        """In float32, as the service computes."""
        return self.read(name, lambda start, stop: np.stack(part.images[start:stop]), len(part.images), "fp32")
