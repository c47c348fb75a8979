"""A checkpoint's segmentation heads as graphs beside the encoder's, measured behind it from pixels to logits.

Build calls :func:`export_heads` once, then has the heads measured behind every encoder graph that it judges. A head is
float32 in every bundle; nothing here runs an encoder.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from bootleg_bundle.manifest import Graph, Head, Parity, Probe, golden_key
from bootleg_export.head_graph import measure_logits, run_head
from bootleg_export.head_to_onnx import export_head
from bootleg_export.to_onnx import OPSET
from bootleg_training.checkpoint import head_probe, load_head

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from pathlib import Path

    import numpy as np
    from numpy.typing import NDArray
    from torch import nn

    from bootleg_training.checkpoint import CheckpointConfig

    Array = NDArray[np.float32]
    Arrays = Mapping[str, Array]

BATCHES = (1, 7, 8)
"""None is the batch that a head was traced with."""


@dataclass(frozen=True)
class HeadGraphs:
    """The heads of a bundle in the making.

    Attributes:
        heads: the manifest's entries.
        probes: the records of these heads; nothing of a head that was left out.
        left_out: heads of the checkpoint that were trained for another input size.
        folder: of the bundle.
        modules: the heads in PyTorch.
    """

    heads: dict[str, Head]
    probes: tuple[Probe, ...]
    left_out: tuple[str, ...]
    folder: Path
    modules: Mapping[str, nn.Module]

    @property
    def files(self) -> list[str]:
        """Names of every head's file, relative to the bundle."""
        return [head.graph.file for head in self.heads.values()]

    def with_probes(self, probes: Iterable[Probe]) -> tuple[Probe, ...]:
        """The checkpoint's records, with those of these heads and without those of the heads left out."""
        absent = {head_probe(name) for name in self.left_out}
        kept = [probe for probe in probes if probe.probe not in absent]
        return (*kept, *(probe for probe in self.probes if probe not in kept))

    def expected(self, tokens: Arrays) -> dict[str, Array]:
        """Logits in PyTorch, named by ``golden_key``; of the golden images, they are what ``golden.npz`` holds.

        Args:
            tokens: outputs of the encoder; ``patch_tokens`` and ``layer_tokens`` are read.
        """
        return {golden_key(name): _logits(self.modules[name], tokens[head.input]) for name, head in self.heads.items()}

    def measure(self, precision: str, reference: Arrays, actual: Arrays) -> tuple[Parity, ...]:
        """Compare logits from pixels on; whoever asks holds the rows against the precision's gate.

        Args:
            precision: of the encoder graph.
            reference: the encoder's outputs in PyTorch, float32.
            actual: those of its graph, for the same images.

        Raises:
            BundleFileError: a head's graph cannot be run.
        """
        expected = self.expected(reference)
        return tuple(
            measure_logits(
                precision,
                golden_key(name),
                expected[golden_key(name)],
                run_head(self.folder / head.graph.file, head.input, actual[head.input], BATCHES),
            )
            for name, head in self.heads.items()
        )


def export_heads(folder: Path, checkpoint: Path, config: CheckpointConfig, *, size: int) -> HeadGraphs:
    """Write every head of a checkpoint that was trained for the bundle's input size.

    Args:
        folder: the bundle; ``heads/`` is made in it where there is one.
        checkpoint: its directory.
        config: its configuration, as read with the encoder.
        size: side of the bundle's input in pixels.

    Raises:
        CheckpointError: a head's weights do not fit its description.
        ParityError: the exporter did not keep the bundle's contract.
    """
    grid, width = size // config.encoder.patch_size, config.encoder.width
    rows = {"patch_tokens": (grid, grid, width), "layer_tokens": (len(config.target_layers), grid, grid, width)}
    heads: dict[str, Head] = {}
    modules = {name: load_head(checkpoint, name, config) for name, head in config.heads.items() if head.size == size}
    for name, module in modules.items():
        described, file = config.heads[name], f"heads/{name}.onnx"
        (folder / file).parent.mkdir(exist_ok=True)
        sides = export_head(module, described.input, rows[described.input], folder / file)
        graph = Graph(file=file, opset=OPSET)
        heads[name] = Head(input=described.input, graph=graph, classes=described.classes, grid=sides)
    recorded = {head_probe(name) for name in heads}
    return HeadGraphs(
        heads=heads,
        probes=tuple(probe for probe in config.probes if probe.probe in recorded),
        left_out=tuple(name for name in config.heads if name not in heads),
        folder=folder,
        modules=modules,
    )


@torch.no_grad()
def _logits(head: nn.Module, tokens: Array) -> Array:
    logits: Array = head(torch.from_numpy(tokens)).numpy()
    return logits
