"""The probes of ``bootleg probe``: how good are frozen features, beside an untrained encoder's?"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from bootleg_bundle.errors import DataError
from bootleg_bundle.manifest import Probe
from bootleg_training.checkpoint import read_config, replace_config
from bootleg_training.probes.attentive import DEFAULTS as ATTENTIVE
from bootleg_training.probes.cache import FeatureCache, open_cache
from bootleg_training.probes.classify import NEEDS, Kind, Labelled, Score, score, score_blocks
from bootleg_training.probes.encoders import DEFAULTS, TWIN, Comparison, load_compared, suffix

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from bootleg_bundle.preprocess import PreprocessSpec
    from bootleg_training.data.pack import Pack
    from bootleg_training.probes.attentive import AttentiveSettings
    from bootleg_training.probes.features import Kind as FeatureKind
    from bootleg_training.vit import Encoder


def probe_checkpoint(
    path: Path,
    train: Pack,
    test: Pack,
    device: torch.device,
    *,
    kinds: Sequence[Kind] = ("knn", "linear"),
    layers: bool = False,
    comparison: Comparison = DEFAULTS,
    attentive: AttentiveSettings = ATTENTIVE,
) -> list[Probe]:
    """Accuracy of a checkpoint's frozen features and of its random-initialised twin's.

    Args:
        path: the checkpoint.
        train: labelled images to learn from.
        test: labelled images to score on.
        device: that computes.
        kinds: probes, see :mod:`bootleg_training.probes.classify`.
        layers: also k-NN and a linear probe on each block's mean patch token, named ``knn-block-3`` and so on.
        comparison: encoders, precision and cache; a student's probes are named ``knn-student`` and so on.
        attentive: how the attentive probe is trained.

    Raises:
        CheckpointError: see :func:`bootleg_training.probes.encoders.load_which`.
        DataError: a pack has no labels, or the two have different classes, or other preprocessing.
    """
    encoders, config = load_compared(path, comparison.which)
    _check_packs(train, test, config.preprocess)
    wanted: list[FeatureKind] = sorted({NEEDS[kind] for kind in kinds} | ({"blocks"} if layers else set()))
    found: dict[str, dict[str, Score]] = {}
    with open_cache(comparison.cache, precision=comparison.precision) as cache:
        for name, encoder in encoders.items():
            encoder.to(device)
            x = _labelled(cache, encoder, train, wanted, f"features of train, {name}")
            x_test = _labelled(cache, encoder, test, wanted, f"features of test, {name}")
            scores: dict[str, Score] = {kind: score(kind, x, x_test, device, attentive) for kind in kinds}
            found[name] = scores | (score_blocks(x, x_test, device) if layers else {})
    size = f"{len(train.images):,} train, {len(test.images):,} test images"
    return [
        Probe(
            probe=kind + suffix(name),
            dataset=train.name,
            value=round(value.accuracy, 4),
            random_init=round(found[TWIN][kind].accuracy, 4),
            detail=f"{value.detail}; {size}; {value.features}",
        )
        for name in comparison.which
        for kind, value in found[name].items()
    ]


def record_probes(path: Path, probes: list[Probe]) -> None:
    """Put results into a checkpoint's ``config.json``, replacing earlier ones of the same probe and data."""
    config = read_config(path)
    new = {(p.probe, p.dataset) for p in probes}
    kept = [p for p in config.probes if (p.probe, p.dataset) not in new]
    replace_config(path, config.model_copy(update={"probes": (*kept, *probes)}))


def _check_packs(train: Pack, test: Pack, spec: PreprocessSpec) -> None:
    if train.labels is None or test.labels is None:
        raise DataError("a probe needs labels: put the images of each class into a directory of its own")
    if train.classes != test.classes:
        raise DataError(f"the packs {train.name} and {test.name} have different classes")
    for pack in (train, test):
        if pack.preprocess != spec:  # else the probe's pixels would not be the service's
            raise DataError(
                f"the pack {pack.name} was not made as this encoder's input is: prepare it with --size {spec.height}"
            )


def _labelled(cache: FeatureCache, encoder: Encoder, pack: Pack, kinds: Sequence[FeatureKind], title: str) -> Labelled:
    assert pack.labels is not None
    found = cache.features(encoder, pack.images, pack.fingerprint, pack.preprocess, kinds, title=title)
    return Labelled(found, torch.from_numpy(pack.labels))
