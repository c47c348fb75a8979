"""Running an exported encoder graph on the CPU with ONNX Runtime, to judge it.

Build and verify call it; serving has a session of its own. It takes weights from the files that it is given, by
content, and from no other place.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import onnxruntime as ort

from bootleg_bundle.errors import BundleFileError
from bootleg_bundle.manifest import GRAPH_INPUT, GRAPH_OUTPUTS

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from numpy.typing import NDArray


def run_graph(
    path: Path, pixels: NDArray[np.uint8], batches: Sequence[int], *, external: Sequence[str] = ()
) -> dict[str, NDArray[np.float32]]:
    """Outputs for ``pixels`` ``[n, H, W, 3]``, computed in batches of the given sizes in turn.

    Args:
        path: the graph.
        pixels: uint8.
        batches: sizes.
        external: names of the files beside the graph that hold its weights.

    Raises:
        BundleFileError: the graph cannot be loaded or run.
    """
    try:
        session = open_session(path, external)
        return _run(session, pixels, batches)
    except Exception as error:  # ONNX Runtime raises its own types, one for each status
        raise BundleFileError(f"ONNX Runtime cannot run {path.name}: {type(error).__name__}") from error


def open_session(path: Path, external: Sequence[str] = (), threads: int = 0) -> ort.InferenceSession:
    """Load a graph on the CPU, with ``threads`` threads or, by 0, one for each core."""
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    if external:
        contents = [path.with_name(name).read_bytes() for name in external]
        options.add_external_initializers_from_files_in_memory(list(external), contents, [len(c) for c in contents])
    return ort.InferenceSession(path.read_bytes(), options, providers=["CPUExecutionProvider"])


def _run(
    session: ort.InferenceSession, pixels: NDArray[np.uint8], batches: Sequence[int]
) -> dict[str, NDArray[np.float32]]:
    parts: list[list[NDArray[np.float32]]] = []
    start, turn = 0, 0
    while start < len(pixels):
        size = batches[turn % len(batches)]
        parts.append(session.run(list(GRAPH_OUTPUTS), {GRAPH_INPUT: pixels[start : start + size]}))
        start, turn = start + size, turn + 1
    return {name: np.concatenate([part[i] for part in parts]) for i, name in enumerate(GRAPH_OUTPUTS)}
