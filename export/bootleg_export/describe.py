"""The fields of a manifest that follow from the checkpoint: architecture, outputs, embedding space, provenance."""

from __future__ import annotations

from importlib.metadata import version
from typing import TYPE_CHECKING, Any

from bootleg_bundle.manifest import Architecture, Outputs, embedding_space_id
from bootleg_export.graph import POOLING
from bootleg_training.checkpoint import interpreted_sha256, weights_sha256

if TYPE_CHECKING:
    from collections.abc import Iterable

    from bootleg_bundle.preprocess import PreprocessSpec
    from bootleg_training.checkpoint import CheckpointConfig
    from bootleg_training.vit import Encoder

TOOLS = {"fp32": ("onnx", "onnxscript"), "int8": ("onnxruntime",)}
"""Packages that decide what a graph of a precision computes."""


def describe(
    encoder: Encoder, config: CheckpointConfig, spec: PreprocessSpec, precisions: Iterable[str]
) -> dict[str, Any]:
    """Describe an encoder.

    Args:
        encoder: at the size that is exported.
        config: of its checkpoint.
        spec: preprocessing at that size. At another size than the trained one the checkpoint's probes say nothing.
        precisions: of the bundle.
    """
    shape = encoder.config
    weights = weights_sha256(dict(encoder.named_parameters()))
    tools = {package: version(package) for precision in precisions for package in TOOLS.get(precision, ())}
    versions = {**config.provenance.versions, **tools}
    return {
        "embedding_space": embedding_space_id(interpreted_sha256(weights, config), spec, POOLING),
        "architecture": Architecture(
            name=shape.label,
            image_size=shape.image_size,
            patch_size=shape.patch_size,
            width=shape.width,
            depth=shape.depth,
            heads=shape.heads,
            registers=shape.registers,
            parameters=sum(parameter.numel() for parameter in encoder.parameters()),
        ),
        "preprocess": spec,
        "outputs": Outputs(dim=shape.width, grid=(shape.grid, shape.grid), layers=config.target_layers),
        "probes": config.probes if spec == config.preprocess else (),
        "provenance": config.provenance.model_copy(update={"checkpoint_sha256": weights, "versions": versions}),
    }
