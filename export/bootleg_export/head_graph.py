"""Running a head's graph on tokens and measuring its logits; needs neither PyTorch nor ONNX.

Export calls it before a head may enter a bundle, verify when the bundle has arrived somewhere.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import onnxruntime as ort

from bootleg_bundle.errors import BundleFileError
from bootleg_bundle.manifest import HEAD_OUTPUT
from bootleg_export.parity import measure

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from bootleg_bundle.manifest import Parity

    Array = NDArray[np.float32]


def run_head(file: Path, name: str, tokens: Array, batches: Sequence[int]) -> Array:
    """Logits ``[n, C, h, w]`` for tokens ``[n, ...]``, computed in batches of the given sizes in turn.

    Raises:
        BundleFileError: the graph cannot be loaded or run.
    """
    parts: list[Array] = []
    start = 0
    try:
        session = ort.InferenceSession(file.read_bytes(), providers=["CPUExecutionProvider"])
        while start < len(tokens):
            size = batches[len(parts) % len(batches)]
            parts += session.run([HEAD_OUTPUT], {name: tokens[start : start + size]})
            start += size
    except Exception as error:  # ONNX Runtime raises its own types, one for each status
        raise BundleFileError(f"ONNX Runtime cannot run heads/{file.name}: {type(error).__name__}") from error
    return np.concatenate(parts)


def measure_logits(precision: str, key: str, reference: Array, actual: Array) -> Parity:
    """Compare logits ``[n, C, h, w]``; a vector of the comparison is one image's."""
    one, other = (logits.reshape(len(logits), -1) for logits in (reference, actual))
    (row,) = measure(precision, {key: one}, {key: other})
    return row
