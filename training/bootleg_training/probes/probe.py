"""The probes of ``bootleg probe``: how good are frozen features, beside an untrained encoder's?"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import torch

from bootleg_bundle.errors import DataError
from bootleg_bundle.manifest import Probe
from bootleg_training.checkpoint import CONFIG_NAME, load_encoder, read_config
from bootleg_training.probes.features import mean_patch_features
from bootleg_training.probes.knn import knn_accuracy
from bootleg_training.probes.linear import linear_probe
from bootleg_training.vit import Encoder

if TYPE_CHECKING:
    from pathlib import Path

    from bootleg_bundle.preprocess import PreprocessSpec
    from bootleg_training.data.pack import Pack


def probe_checkpoint(path: Path, train: Pack, test: Pack, device: torch.device) -> list[Probe]:
    """k-NN and linear accuracy on mean patch tokens, of the checkpoint and of its random-initialised twin.

    Raises:
        DataError: a pack has no labels, or the two have different classes, or other preprocessing.
    """
    if train.labels is None or test.labels is None:
        raise DataError("a probe needs labels: put the images of each class into a directory of its own")
    if train.classes != test.classes:
        raise DataError(f"the packs {train.name} and {test.name} have different classes")
    encoder, config = load_encoder(path)
    for pack in (train, test):
        if pack.preprocess != config.preprocess:  # else the probe's pixels would not be the service's
            raise DataError(
                f"the pack {pack.name} was not made as this encoder's input is: "
                f"prepare it with --size {config.preprocess.height}"
            )
    torch.manual_seed(config.run.seed)
    twin = Encoder(config.encoder).eval()
    trained = _scores(encoder.to(device), train, test, config.preprocess)
    untrained = _scores(twin.to(device), train, test, config.preprocess)
    size = f"{len(train.images):,} train, {len(test.images):,} test images; mean patch token"
    details = {"knn": f"k = 20, cosine, temperature 0.07; {size}", "linear": f"logistic regression; {size}"}
    return [
        Probe(
            probe=name,
            dataset=train.name,
            value=round(trained[name], 4),
            random_init=round(untrained[name], 4),
            detail=details[name],
        )
        for name in trained
    ]


def record_probes(path: Path, probes: list[Probe]) -> None:
    """Put results into a checkpoint's ``config.json``, replacing earlier ones of the same probe and data."""
    config = read_config(path)
    new = {(p.probe, p.dataset) for p in probes}
    kept = [p for p in config.probes if (p.probe, p.dataset) not in new]
    updated = config.model_copy(update={"probes": (*kept, *probes)})
    partial = path / f"{CONFIG_NAME}.partial"
    partial.write_text(json.dumps(updated.model_dump(mode="json"), indent=2, sort_keys=True) + "\n", encoding="utf-8")
    partial.replace(path / CONFIG_NAME)


def _scores(encoder: Encoder, train: Pack, test: Pack, spec: PreprocessSpec) -> dict[str, float]:
    assert train.labels is not None
    assert test.labels is not None
    x, y = mean_patch_features(encoder, train.images, spec), torch.from_numpy(train.labels)
    x_test, y_test = mean_patch_features(encoder, test.images, spec), torch.from_numpy(test.labels)
    return {
        "knn": knn_accuracy(x, y, x_test, y_test),
        "linear": linear_probe(x, y, x_test, y_test).accuracy,
    }
