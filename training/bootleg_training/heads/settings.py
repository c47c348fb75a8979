"""What ``bootleg train-head`` is told, composed once by the command line."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from bootleg_training.config import AugmentConfig
from bootleg_training.heads.fit import FitSettings

if TYPE_CHECKING:
    from pathlib import Path

    from bootleg_training.heads.config import Kind
    from bootleg_training.heads.tokens import Precision

AUGMENT = AugmentConfig(scale=(0.3, 1.0))
FIT = FitSettings()


@dataclass(frozen=True)
class Parts:
    """The folders of a segmentation set, each as :mod:`bootleg_training.probes.scenes` says.

    Attributes:
        train: to learn from.
        val: to choose by.
        test: to score on, once.
    """

    train: Path
    val: Path
    test: Path


@dataclass(frozen=True)
class HeadSettings:
    """How a head comes about.

    Attributes:
        kind: of the head.
        size: input side in pixels, a multiple of the patch side; the checkpoint's when None.
        ignore: mask label of the pixels that do not count; None when all do.
        classes: file of names and colours; None for ``classes.txt`` in the training folder or beside it.
        dataset: what the data set is called; after its folder when None.
        crops: crops to learn from, in all; at least one a picture.
        augment: bounds of the random crops.
        balances: class balances to choose from, see :class:`bootleg_training.heads.fit.FitSettings`.
        fit: how each candidate is trained; its balance is set by the choice.
        precision: of the encoder's pass over the crops; scores are computed in float32, as the service does.
    """

    kind: Kind = "layers"
    size: int | None = None
    ignore: int | None = 255
    classes: Path | None = None
    dataset: str | None = None
    crops: int = 6000
    augment: AugmentConfig = AUGMENT
    balances: tuple[float, ...] = (0.0, 0.5, 1.0)
    fit: FitSettings = FIT
    precision: Precision = "bf16"
