"""The segmentation probes of ``bootleg probe``: a frozen encoder at a larger input, beside its untrained twin."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from bootleg_bundle.manifest import Probe
from bootleg_training.probes.cache import open_cache
from bootleg_training.probes.encoders import DEFAULTS, TWIN, Comparison, load_compared, suffix
from bootleg_training.probes.pixel_head import DEFAULTS as HEAD_DEFAULTS
from bootleg_training.probes.pixel_head import HeadSettings, segment_pixels
from bootleg_training.probes.scenes import Scenes, read_scenes
from bootleg_training.probes.segmentation import Segmentation, patch_sets, segment_knn, segment_logistic
from bootleg_training.resize import at_size

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    import numpy as np
    import torch
    from numpy.typing import NDArray

    from bootleg_bundle.preprocess import PreprocessSpec
    from bootleg_training.config import EncoderConfig
    from bootleg_training.probes.cache import FeatureCache
    from bootleg_training.vit import Encoder

    Features = NDArray[np.floating]

Head = Literal["knn", "linear", "pixel-head"]
HEADS: tuple[Head, ...] = ("knn", "linear", "pixel-head")
SIDE, GRID = 224, 28
SPLITS = frozenset({"train", "training", "val", "valid", "validation", "test", "testing"})


@dataclass(frozen=True)
class SegmentationSettings:
    """What is probed on a segmentation set.

    Attributes:
        heads: what predicts labels from tokens.
        side: input in pixels, a multiple of the patch side; :func:`default_side` when None.
        ignore: label of the pixels that do not count; None when all do.
        name: what the data set is called; after its folder when None.
        pixels: how the pixel head is trained.
    """

    heads: Sequence[Head] = ("knn", "linear")
    side: int | None = None
    ignore: int | None = 255
    name: str | None = None
    pixels: HeadSettings = HEAD_DEFAULTS


def default_side(config: EncoderConfig) -> int:
    """224 pixels as in CAPI, or 28 patches where a patch has fewer than 8 pixels: cost grows as their square."""
    return max(1, min(SIDE // config.patch_size, GRID)) * config.patch_size


def segment_checkpoint(
    path: Path,
    train: Path,
    test: Path,
    device: torch.device,
    settings: SegmentationSettings,
    *,
    comparison: Comparison = DEFAULTS,
) -> list[Probe]:
    """Mean IoU of heads on a checkpoint's frozen patch tokens and on its random-initialised twin's.

    Args:
        path: the checkpoint.
        train: segmentation set to learn from, see :mod:`bootleg_training.probes.scenes`.
        test: segmentation set to score on.
        device: that computes.
        settings: heads, input size, ignored label.
        comparison: encoders, precision and cache.

    Raises:
        CheckpointError: see :func:`bootleg_training.probes.encoders.load_which`.
        ConfigError: ``side`` is no multiple of the patch side.
        DataError: a set cannot be used, see :func:`bootleg_training.probes.scenes.read_scenes`.
    """
    encoders, config = load_compared(path, comparison.which)
    side = settings.side or default_side(config.encoder)
    resized = {name: at_size(encoder, side) for name, encoder in encoders.items()}
    scenes = read_scenes(train, side, ignore=settings.ignore)
    test_scenes = read_scenes(test, side, ignore=settings.ignore, classes=scenes.classes)
    spec = config.preprocess.model_copy(update={"height": side, "width": side, "crop_ratio": 1.0})
    found: dict[str, dict[Head, Segmentation]] = {}
    with open_cache(comparison.cache, precision=comparison.precision) as cache:
        for name, encoder in resized.items():
            encoder.to(device)
            tokens = _tokens(cache, encoder, scenes, spec, f"tokens of train, {name}")
            test_tokens = _tokens(cache, encoder, test_scenes, spec, f"tokens of test, {name}")
            parts = (tokens, scenes), (test_tokens, test_scenes)
            found[name] = segment_tokens(*parts, settings.heads, device, settings.pixels)
    size = f"{len(scenes.images):,} train, {len(test_scenes.images):,} test images at {side} px"
    return [
        Probe(
            probe=f"segmentation-{head}{suffix(name)}",
            dataset=settings.name or dataset_name(train),
            metric="mIoU",
            value=round(score.miou, 4),
            random_init=round(found[TWIN][head].miou, 4),
            detail=f"{score.chosen}; {size}; patch tokens, positions interpolated",
        )
        for name in comparison.which
        for head, score in found[name].items()
    ]


def segment_tokens(
    train: tuple[Features, Scenes],
    test: tuple[Features, Scenes],
    heads: Sequence[Head],
    device: torch.device,
    pixels: HeadSettings = HEAD_DEFAULTS,
) -> dict[Head, Segmentation]:
    """Score heads on any features ``[n, N, D]`` of square patch grids."""
    fitted, asked = patch_sets(train, test, device)
    scores: dict[Head, Segmentation] = {}
    for head in heads:
        match head:
            case "knn":
                scores[head] = segment_knn(fitted, asked)
            case "linear":
                scores[head] = segment_logistic(fitted, asked)
            case "pixel-head":
                scores[head] = segment_pixels((fitted, train[1]), (asked, test[1]), pixels)
    return scores


def _tokens(cache: FeatureCache, encoder: Encoder, scenes: Scenes, spec: PreprocessSpec, title: str) -> Features:
    found = cache.features(encoder, scenes.images, scenes.fingerprint, spec, ("patches",), title=title)
    return found["patches"]


def dataset_name(folder: Path) -> str:
    """The folder's name, or its parent's where it is called after a split."""
    whole = folder.resolve()
    return whole.parent.name if whole.name.lower() in SPLITS and whole.parent.name else whole.name
