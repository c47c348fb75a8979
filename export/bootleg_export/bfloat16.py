"""Running a bfloat16 graph where no processor kernel exists: ONNX's own evaluator, to judge the very file.

ONNX Runtime has no bfloat16 products on the CPU. Runtimes normalise and take softmax in float32, as ONNX's
``stash_type`` asks for; the evaluator would take mean and variance in bfloat16, and be ten times as far off. For a few
images, never for serving.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from ml_dtypes import bfloat16
from onnx.reference import ReferenceEvaluator
from onnx.reference.ops.op_attention import Attention
from onnx.reference.ops.op_layer_normalization import LayerNormalization

from bootleg_bundle.errors import BundleFileError
from bootleg_bundle.manifest import GRAPH_INPUT, GRAPH_OUTPUTS
from bootleg_export.external_data import load_model

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from numpy.typing import NDArray
    from onnx.reference.op_run import OpRun


def run_bfloat16(
    path: Path, pixels: NDArray[np.uint8], *, external: Sequence[str] = ()
) -> dict[str, NDArray[np.float32]]:
    """Outputs for ``pixels`` ``[n, H, W, 3]``; see :func:`bootleg_export.session.run_graph`.

    Raises:
        BundleFileError: the graph cannot be loaded or run.
    """
    model = load_model(path, external)
    try:
        evaluator = ReferenceEvaluator(model, new_ops=[_widened(op) for op in WIDENED])
        outputs = evaluator.run(list(GRAPH_OUTPUTS), {GRAPH_INPUT: pixels})
    except Exception as error:  # the evaluator's operators raise what NumPy raises
        raise BundleFileError(f"the ONNX evaluator cannot run {path.name}: {type(error).__name__}") from error
    return dict(zip(GRAPH_OUTPUTS, outputs, strict=True))


WIDENED: tuple[type[OpRun], ...] = (Attention, LayerNormalization)


def _widened(op: type[OpRun]) -> type[OpRun]:
    """An operator that takes and gives bfloat16 and computes in float32."""

    def run(self: OpRun, *values: Any, **attributes: Any) -> tuple[Any, ...]:
        narrow = values[0].dtype == bfloat16
        given = [value.astype(np.float32) if _is(value, bfloat16) else value for value in values]
        results = op._run(self, *given, **attributes)  # type: ignore[no-untyped-call]  # noqa: SLF001
        return tuple(result.astype(bfloat16) if narrow and _is(result, np.float32) else result for result in results)

    return type(op.__name__, (op,), {"op_domain": "", "_run": run})


def _is(value: Any, dtype: Any) -> bool:
    return value is not None and value.dtype == dtype
