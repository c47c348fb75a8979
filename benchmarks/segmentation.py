"""Segmentation on frozen patch tokens: mean IoU of checkpoints beside their untrained twins and raw pixels.

    python -m benchmarks.segmentation TRAIN_FOLDER TEST_FOLDER CHECKPOINT [CHECKPOINT ...]
        [--name CamVid] [--ignore 11] [--side 224] [--heads knn,linear,pixel-head] [--iterations 1000] [--out FILE]

Writes ``results/segmentation.json``, or FILE for a trial. A twin is drawn once a shape and seed, raw pixels once a
patch side.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from benchmarks.result import write_result
from bootleg_training.device import choose_device
from bootleg_training.probes.cache import open_cache
from bootleg_training.probes.encoders import TWIN, load_compared
from bootleg_training.probes.pixel_head import HeadSettings
from bootleg_training.probes.scenes import Scenes, read_scenes
from bootleg_training.probes.segment import HEADS, default_side, segment_tokens
from bootleg_training.resize import at_size

if TYPE_CHECKING:
    import torch
    from numpy.typing import NDArray

    from bootleg_training.checkpoint import CheckpointConfig
    from bootleg_training.vit import Encoder


def main() -> None:
    """Segment with every checkpoint given on the command line."""
    options = parse()
    device = choose_device(options.device)
    rows: list[dict[str, Any]] = []
    seen: set[tuple[Any, ...]] = set()
    for checkpoint in options.checkpoints:
        encoders, config = load_compared(checkpoint, ("teacher",))
        side = options.side or default_side(config.encoder)
        parts = read(options, side)
        for name, encoder in encoders.items():
            identity = (name, config.encoder, config.run.seed if name == TWIN else checkpoint)
            if identity not in seen:
                seen.add(identity)
                features = tokens(at_size(encoder, side).to(device), parts, config, options.precision)
                rows += scored(options, features, parts, device, row(config, name, side))
        patch = config.encoder.patch_size
        if (patch, side) not in seen:
            seen.add((patch, side))
            about = {"encoder": f"raw pixels, patch {patch}", "weights": "none", "side": side}
            rows += scored(options, [patches(part, patch) for part in parts], parts, device, about)
    if options.out:
        options.out.write_text(json.dumps(rows, indent=2) + "\n", encoding="utf-8")
        print(options.out)
    else:
        print(write_result("segmentation", rows))


def parse() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.segmentation")
    parser.add_argument("train", type=Path)
    parser.add_argument("test", type=Path)
    parser.add_argument("checkpoints", type=Path, nargs="+")
    parser.add_argument("--name", default="CamVid")
    parser.add_argument("--ignore", type=int, default=11)
    parser.add_argument("--side", type=int)
    parser.add_argument("--heads", type=lambda text: tuple(text.split(",")), default=HEADS)
    parser.add_argument("--iterations", type=int, default=HeadSettings().iterations)
    parser.add_argument("--precision", choices=["bf16", "fp32"], default="bf16")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--out", type=Path)
    return parser.parse_args()


def read(options: argparse.Namespace, side: int) -> tuple[Scenes, Scenes]:
    """Training and test part."""
    train = read_scenes(options.train, side, ignore=options.ignore)
    return train, read_scenes(options.test, side, ignore=options.ignore, classes=train.classes)


def tokens(
    encoder: Encoder, parts: tuple[Scenes, Scenes], config: CheckpointConfig, precision: str
) -> list[NDArray[np.floating]]:
    """Patch tokens of both parts."""
    side = encoder.config.image_size
    spec = config.preprocess.model_copy(update={"height": side, "width": side, "crop_ratio": 1.0})
    with open_cache(None, precision=precision) as cache:
        found = [cache.features(encoder, part.images, part.fingerprint, spec, ("patches",)) for part in parts]
        return [np.array(features["patches"]) for features in found]


def patches(part: Scenes, patch: int) -> NDArray[np.floating]:
    """The pixels of each patch: what a linear map can do without any encoder. ``[n, N, patch * patch * 3]``."""
    n, side = part.images.shape[:2]
    cut = part.images.reshape(n, side // patch, patch, side // patch, patch, 3).swapaxes(2, 3)
    return cut.reshape(n, (side // patch) ** 2, -1).astype(np.float32)


def row(config: CheckpointConfig, name: str, side: int) -> dict[str, Any]:
    """What is known of an encoder."""
    label = f"{config.encoder.label} at {config.encoder.image_size} px"
    weights = "untrained twin" if name == TWIN else f"{config.provenance.dataset}, {config.provenance.images_seen:,}"
    return {"encoder": label, "weights": weights, "side": side}


def scored(
    options: argparse.Namespace,
    features: list[NDArray[np.floating]],
    parts: tuple[Scenes, Scenes],
    device: torch.device,
    about: dict[str, Any],
) -> list[dict[str, Any]]:
    """A row for each head."""
    rows = []
    for head in options.heads:
        begun = time.monotonic()
        pairs = list(zip(features, parts, strict=True))
        found = segment_tokens(pairs[0], pairs[1], (head,), device, HeadSettings(iterations=options.iterations))[head]
        minutes = (time.monotonic() - begun) / 60
        rows.append(
            {
                "data": options.name,
                **about,
                "head": head,
                "miou": round(found.miou, 4),
                "chosen": found.chosen,
                "minutes": round(minutes, 1),
            }
        )
        print(json.dumps(rows[-1]), flush=True)
    return rows


if __name__ == "__main__":
    main()
