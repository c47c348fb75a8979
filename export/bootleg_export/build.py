"""Checkpoint to bundle: export, measure, leave out what does not match, write the manifest last."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from bootleg_bundle.bundle import Bundle, write_bundle
from bootleg_bundle.errors import BundleError
from bootleg_bundle.manifest import GOLDEN_NAME, GOLDEN_OUTPUTS, GRAPH_INPUT, check_model_name
from bootleg_export.calibration import read_calibration
from bootleg_export.candidates import Candidates
from bootleg_export.card import model_card
from bootleg_export.describe import describe
from bootleg_export.graph import ServingGraph, reference_outputs
from bootleg_export.heads import export_heads
from bootleg_export.labelled import open_labelled
from bootleg_export.mask_tasks import measure_masks, open_exam
from bootleg_export.options import DEFAULTS, ExportOptions
from bootleg_export.samples import natural_noise
from bootleg_export.tasks import measure_tasks
from bootleg_training.checkpoint import load_encoder
from bootleg_training.resize import at_size

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from bootleg_bundle.preprocess import PreprocessSpec
    from bootleg_training.checkpoint import CheckpointConfig
    from bootleg_training.vit import Encoder

GOLDEN_IMAGES = 2
CARD_NAME = "README.md"


class _Source(NamedTuple):
    """What is exported: an encoder at the size asked for, its checkpoint's description, its preprocessing."""

    encoder: Encoder
    config: CheckpointConfig
    spec: PreprocessSpec


class Built(NamedTuple):
    """A bundle, and why a precision that was asked for is not in it."""

    bundle: Bundle
    refused: dict[str, str]


def build_bundle(
    checkpoint: Path,
    out: Path,
    *,
    name: str,
    options: ExportOptions = DEFAULTS,
    say: Callable[[str], object] = lambda _: None,
) -> Built:
    """Export a checkpoint.

    Args:
        checkpoint: directory written by training.
        out: bundle directory to create; must not exist. Nothing is left there when fp32 fails a check.
        name: the model's name in the service.
        options: precisions, calibration and the rest.
        say: told what is being done.

    Returns:
        The bundle, with fp32 and each precision asked for that passed its gates, and what the others broke.

    Raises:
        CheckpointError: the checkpoint cannot be read.
        BundleError: ``out`` exists.
        ConfigError: the encoder cannot take the size.
        DataError: calibration images or labelled data cannot be used.
        ManifestError: ``name`` is no model name.
        ParityError: the fp32 graph's outputs differ from PyTorch's by more than the gate.
    """
    check_model_name(name)
    if out.exists():
        raise BundleError(f"{out} exists already: remove it or choose another --out")
    source = _load(checkpoint, options.size)
    partial = out.with_name(out.name + ".partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    try:
        written, refused = _fill(partial, checkpoint, source, name, options, say)
        partial.rename(out)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return Built(Bundle(out, written.manifest, written.sha256), refused)  # verified when it was written


def _load(checkpoint: Path, size: int | None) -> _Source:
    encoder, config = load_encoder(checkpoint)
    spec = config.preprocess
    if size is None or size == spec.height:
        return _Source(encoder, config, spec)
    resized = spec.model_copy(update={"height": size, "width": size})
    return _Source(at_size(encoder, size), config, resized)


def _fill(
    folder: Path,
    checkpoint: Path,
    source: _Source,
    name: str,
    options: ExportOptions,
    say: Callable[[str], object],
) -> Built:
    spec = source.spec
    # Bad input is found before minutes of work are done for it.
    calibration = (
        None if options.calibration is None else read_calibration(options.calibration, spec, options.operators)
    )
    labelled = None if options.tasks is None else open_labelled(spec, *options.tasks)
    graph = ServingGraph(source.encoder, spec, source.config.target_layers).eval()
    heads = export_heads(folder, checkpoint, source.config, size=spec.height)
    for head in heads.left_out:
        say(f"head {head}: left out, for it was trained at {source.config.heads[head].size} pixels")
    exam = None
    if options.scenes is not None:
        exam = open_exam(options.scenes, spec, heads.heads, ignore=options.ignore)
    candidates = Candidates(folder, graph, spec, calibration, heads)
    for precision in ("fp32", *options.precisions):
        say(f"{precision}: export and comparison with PyTorch")
        candidates.add(precision, external=options.external_data)
    if labelled is not None:
        say("labelled images: k-NN and linear probe for each precision")
        candidates.try_tasks(lambda files: measure_tasks(files, labelled, spec))
    if exam is not None:
        say("labelled pictures: every head behind each precision")
        candidates.try_tasks(lambda files: measure_masks(files, folder, heads.heads, exam))

    golden = natural_noise(GOLDEN_IMAGES, spec.height, spec.width, seed=1)
    expected = reference_outputs(graph, golden)
    arrays: dict[str, Any] = {GRAPH_INPUT: golden, **{key: expected[key] for key in GOLDEN_OUTPUTS}}
    arrays |= heads.expected(expected)
    np.savez(folder / GOLDEN_NAME, **arrays)
    fields = {
        "name": name,
        **describe(source.encoder, source.config, spec, candidates.graphs),
        "graphs": candidates.graphs,
        "heads": heads.heads,
        "parity": candidates.parity,
        "tasks": candidates.tasks,
    }
    fields["probes"] = heads.with_probes(fields["probes"])
    files = [*candidates.files, *heads.files]
    card = model_card(fields, {file: (folder / file).stat().st_size for file in files})
    (folder / CARD_NAME).write_text(card, encoding="utf-8")
    written = write_bundle(folder, fields, [*files, GOLDEN_NAME, CARD_NAME])
    return Built(written, candidates.refused)
