"""Running an exported encoder graph on the CPU with ONNX Runtime, to judge it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import onnxruntime as ort

from bootleg_bundle.errors import BundleFileError
from bootleg_bundle.manifest import GRAPH_INPUT, GRAPH_OUTPUTS

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray


def run_graph(path: Path, pixels: NDArray[np.uint8], batches: tuple[int, ...]) -> dict[str, NDArray[np.float32]]:
    """Outputs for ``pixels`` ``[n, H, W, 3]``, computed in batches of the given sizes in turn.

    Raises:
        BundleFileError: the graph cannot be loaded or run.
    """
    try:
        return _run(path, pixels, batches)
    except Exception as error:  # ONNX Runtime raises its own types, one for each status
        raise BundleFileError(f"ONNX Runtime cannot run {path.name}: {type(error).__name__}") from error


def _run(path: Path, pixels: NDArray[np.uint8], batches: tuple[int, ...]) -> dict[str, NDArray[np.float32]]:
    session = ort.InferenceSession(path.read_bytes(), providers=["CPUExecutionProvider"])
    parts: list[list[NDArray[np.float32]]] = []
    start, turn = 0, 0
    while start < len(pixels):
        size = batches[turn % len(batches)]
        parts.append(session.run(list(GRAPH_OUTPUTS), {GRAPH_INPUT: pixels[start : start + size]}))
        start, turn = start + size, turn + 1
    return {name: np.concatenate([part[i] for part in parts]) for i, name in enumerate(GRAPH_OUTPUTS)}
