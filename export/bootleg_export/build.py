"""Checkpoint to bundle: export, measure, refuse what does not match, write the manifest last."""

from __future__ import annotations

import shutil
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from bootleg_bundle.bundle import Bundle, write_bundle
from bootleg_bundle.errors import BundleError, ParityError
from bootleg_bundle.manifest import (
    GOLDEN_NAME,
    GOLDEN_OUTPUTS,
    GRAPH_INPUT,
    GRAPH_OUTPUTS,
    Architecture,
    Graph,
    Outputs,
    check_model_name,
    embedding_space_id,
)
from bootleg_export.card import model_card
from bootleg_export.graph import POOLING, ServingGraph
from bootleg_export.parity import GATES, measure
from bootleg_export.samples import natural_noise
from bootleg_export.session import run_graph
from bootleg_export.to_onnx import OPSET, export_onnx
from bootleg_training.checkpoint import CheckpointConfig, interpreted_sha256, load_encoder, weights_sha256

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

    from bootleg_training.vit import Encoder

PARITY_IMAGES = 64
PARITY_BATCHES = (1, 7, 8)  # neither is the batch the graph was traced with
GOLDEN_IMAGES = 2
CARD_NAME = "README.md"


def build_bundle(checkpoint: Path, out: Path, *, name: str) -> Bundle:
    """Export a checkpoint.

    Args:
        checkpoint: directory written by training.
        out: bundle directory to create; must not exist. Nothing is left there when a check fails.
        name: the model's name in the service.

    Raises:
        CheckpointError: the checkpoint cannot be read.
        BundleError: ``out`` exists.
        ManifestError: ``name`` is no model name.
        ParityError: the graph's outputs differ from PyTorch's by more than the gate.
    """
    check_model_name(name)
    if out.exists():
        raise BundleError(f"{out} exists already: remove it or choose another --out")
    encoder, config = load_encoder(checkpoint)
    partial = out.with_name(out.name + ".partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    try:
        written = _fill(partial, encoder, config, name)
        partial.rename(out)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return Bundle(out, written.manifest, written.sha256)  # verified when it was written


def reference_outputs(graph: ServingGraph, pixels: NDArray[np.uint8]) -> dict[str, NDArray[np.float32]]:
    """What PyTorch computes in float32: the reference of every comparison."""
    with torch.no_grad():
        outputs = graph(torch.from_numpy(pixels))
    return {name: output.numpy() for name, output in zip(GRAPH_OUTPUTS, outputs, strict=True)}


def _fill(folder: Path, encoder: Encoder, config: CheckpointConfig, name: str) -> Bundle:
    spec, shape = config.preprocess, config.encoder
    graph = ServingGraph(encoder, spec, config.target_layers).eval()
    file = "encoder.fp32.onnx"
    export_onnx(graph, folder / file)

    pixels = natural_noise(PARITY_IMAGES, spec.height, spec.width)
    parity = measure("fp32", reference_outputs(graph, pixels), run_graph(folder / file, pixels, PARITY_BATCHES))
    for row in parity:
        if not GATES["fp32"].passes(row):
            raise ParityError(
                f"fp32 {row.output}: relative Frobenius {row.relative_frobenius:.1e}, smallest cosine "
                f"{row.cosine_min:.7f}; allowed {GATES['fp32'].relative_frobenius:.0e} and {GATES['fp32'].cosine_min}"
            )
    golden = natural_noise(GOLDEN_IMAGES, spec.height, spec.width, seed=1)
    expected = reference_outputs(graph, golden)
    arrays: dict[str, Any] = {GRAPH_INPUT: golden, **{key: expected[key] for key in GOLDEN_OUTPUTS}}
    np.savez(folder / GOLDEN_NAME, **arrays)

    weights = weights_sha256(dict(encoder.named_parameters()))
    parameters = sum(p.numel() for p in encoder.parameters())
    provenance = config.provenance.model_copy(
        update={
            "checkpoint_sha256": weights,
            "versions": {**config.provenance.versions, **{p: version(p) for p in ("onnx", "onnxscript")}},
        }
    )
    fields = {
        "name": name,
        "embedding_space": embedding_space_id(interpreted_sha256(weights, config), spec, POOLING),
        "architecture": Architecture(
            name=shape.label,
            image_size=shape.image_size,
            patch_size=shape.patch_size,
            width=shape.width,
            depth=shape.depth,
            heads=shape.heads,
            registers=shape.registers,
            parameters=parameters,
        ),
        "preprocess": spec,
        "outputs": Outputs(dim=shape.width, grid=(shape.grid, shape.grid), layers=config.target_layers),
        "graphs": {"fp32": Graph(file=file, opset=OPSET)},
        "parity": parity,
        "probes": config.probes,
        "provenance": provenance,
    }
    (folder / CARD_NAME).write_text(model_card(fields), encoding="utf-8")
    return write_bundle(folder, fields, [file, GOLDEN_NAME, CARD_NAME])
