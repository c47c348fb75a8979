"""``bootleg train-head``: a head on a checkpoint's frozen encoder, beside the same head on its untrained twin."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from bootleg_bundle.errors import CheckpointError, DataError
from bootleg_bundle.manifest import PixelClass, Probe, check_model_name
from bootleg_training.checkpoint import head_probe, read_config
from bootleg_training.heads.choose import Outcome, choose_head
from bootleg_training.heads.classes import MAX_CLASSES, numbered_classes, read_classes
from bootleg_training.heads.config import HeadConfig, Kind
from bootleg_training.heads.crops import Crops
from bootleg_training.heads.labelled import Labelled, read_exam, read_pictures
from bootleg_training.heads.tokens import Frozen
from bootleg_training.probes.encoders import TWIN, load_compared
from bootleg_training.probes.scenes import classes_file
from bootleg_training.probes.segment import dataset_name
from bootleg_training.resize import at_size

if TYPE_CHECKING:
    from pathlib import Path

    import torch

    from bootleg_bundle.preprocess import PreprocessSpec
    from bootleg_training.heads.settings import HeadSettings, Parts

UPSCALE: dict[Kind, int] = {"linear": 1, "layers": 2}
LABELS_A_PATCH = 4
"""Labels along a patch in training. With 8, CamVid's validation part scores the same, at twice the cost."""


@dataclass(frozen=True)
class TrainedHead:
    """What :func:`train_head` returns.

    Attributes:
        config: what a checkpoint says about the head.
        probe: its score.
        trained: the head.
        twin: the same on the untrained encoder, for comparison alone.
    """

    config: HeadConfig
    probe: Probe
    trained: Outcome
    twin: Outcome


def check_name(path: Path, name: str, *, replace: bool) -> None:
    """Refuse a head's name before any work is done for it.

    Raises:
        ManifestError: a manifest could not hold it.
        CheckpointError: the checkpoint cannot be read, or has such a head and ``replace`` is not set.
    """
    check_model_name(name)
    if name in read_config(path).heads and not replace:
        raise CheckpointError(f"{path} has a head {name!r} already: choose another --name, or give --replace")


def train_head(path: Path, parts: Parts, name: str, settings: HeadSettings, device: torch.device) -> TrainedHead:
    """Train a head; the checkpoint is only read.

    Args:
        path: the checkpoint.
        parts: what to learn from, to choose by and to score on.
        name: of the head.
        settings: of head and training.
        device: that computes.

    Raises:
        CheckpointError: the checkpoint cannot be read.
        ConfigError: ``settings.size`` is no multiple of the patch side.
        DataError: a part cannot be used, two parts are the same, or there are fewer than 2 classes.
    """
    encoders, config = load_compared(path, ("teacher",))
    size = settings.size or config.encoder.image_size
    resized = {which: at_size(encoder, size).to(device) for which, encoder in encoders.items()}
    spec = config.preprocess.model_copy(update={"height": size, "width": size})
    train, val, test, classes = _read(parts, spec, settings)
    head = HeadConfig(kind=settings.kind, size=size, upscale=UPSCALE[settings.kind], classes=classes)
    crops = Crops(
        train,
        spec,
        views=max(1, settings.crops // len(train.images)),
        label_side=LABELS_A_PATCH * size // config.encoder.patch_size,
        augment=settings.augment,
        seed=settings.fit.seed,
    )
    cropped = spec.model_copy(update={"crop_ratio": 1.0})
    found = {
        which: choose_head(
            head, Frozen(encoder, cropped, config.target_layers), crops, (val, test), settings, title=which
        )
        for which, encoder in resized.items()
    }
    trained, twin = found["teacher"], found[TWIN]
    counts = f"{len(train.images):,} train, {len(val.images):,} val, {len(test.images):,} test images"
    parameters = sum(weight.numel() for weight in trained.head.parameters())
    probe = Probe(
        probe=head_probe(name),
        dataset=settings.dataset or dataset_name(parts.train),
        metric="mIoU",
        value=trained.miou,
        random_init=twin.miou,
        detail=f"{head.kind} head, {parameters:,} parameters, {len(classes)} classes; class balance "
        f"{trained.balance:g} of {len(settings.balances)} chosen on val; {counts}, centre square at {size} px",
    )
    return TrainedHead(head, probe, trained, twin)


def _read(
    parts: Parts, spec: PreprocessSpec, settings: HeadSettings
) -> tuple[Labelled, Labelled, Labelled, tuple[PixelClass, ...]]:
    """All three parts, so that a fault in the last one is found before the work begins."""
    file = settings.classes or classes_file(parts.train)
    named = read_classes(file) if file else ()
    train = read_pictures(parts.train, spec.height, ignore=settings.ignore, classes=len(named) or None)
    if not 2 <= train.classes <= MAX_CLASSES:
        raise DataError(
            f"{parts.train / 'masks'}: the largest label is {train.classes - 1}; a head has 2 to {MAX_CLASSES} classes"
        )
    val, test = (
        read_exam(part, spec, ignore=settings.ignore, classes=train.classes) for part in (parts.val, parts.test)
    )
    known: dict[str, str] = {}
    for option, part in (("--data", train), ("--val", val), ("--test", test)):
        if (other := known.setdefault(part.fingerprint, option)) != option:
            raise DataError(
                f"{other} and {option} hold the same images: what is learnt, chosen and scored on must differ"
            )
    return train, val, test, named or numbered_classes(train.classes)
