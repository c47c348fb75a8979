"""The precisions of a bundle's encoder graph: how each is asked for, and how its ONNX model is made.

Build calls it. What it makes is a candidate: :mod:`bootleg_export.judge` decides whether it may be shipped.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import torch

from bootleg_bundle.errors import ConfigError
from bootleg_export.graph import in_dtype, with_flat_linears
from bootleg_export.quantize import quantize
from bootleg_export.to_onnx import ATTENTION_OPSET, OPSET, check_contract, export_onnx

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np
    import onnx
    from numpy.typing import NDArray

    from bootleg_export.graph import ServingGraph

OPSETS: Final = {"fp32": OPSET, "fp16": ATTENTION_OPSET, "bf16": ATTENTION_OPSET, "int8": ATTENTION_OPSET}
DTYPES: Final = {"fp16": torch.float16, "bf16": torch.bfloat16}


def parse_precisions(text: str) -> tuple[str, ...]:
    """Read ``"fp16,int8"``: the precisions beside fp32, which is always there, in a fixed order.

    Raises:
        ConfigError: a name that is none.
    """
    asked = {name.strip().lower() for name in text.split(",") if name.strip()}
    for name in sorted(asked - set(OPSETS)):
        if "dynamic" in name:
            raise ConfigError(
                f"precision {name!r}: dynamic int8 is not offered, because it takes its scale from the whole batch and "
                "one image's answer changes with its neighbours; int8 is static, with ranges from --calibration"
            )
        raise ConfigError(f"precision {name!r}: choose among {', '.join(OPSETS)}")
    return tuple(name for name in OPSETS if name in asked and name != "fp32")


def opset_of(precision: str, operators: Sequence[str] = ("linear",)) -> int:
    """The opset of a precision's graph; with attention in 8 bits, one that spells attention out."""
    return OPSET if precision == "int8" and "attention" in operators else OPSETS[precision]


def make_model(
    graph: ServingGraph,
    precision: str,
    calibration: NDArray[np.uint8] | None = None,
    operators: Sequence[str] = ("linear",),
    *,
    external: bool = False,
) -> onnx.ModelProto:
    """Make the ONNX model of one precision.

    Args:
        graph: float32; left as it is.
        precision: one of ``OPSETS``.
        calibration: uint8 ``[n, H, W, 3]``, for int8.
        operators: what int8 computes in 8 bits, as in :mod:`bootleg_export.quantize`.
        external: the model may be too large for one file.

    Raises:
        ParityError: the exporter or the quantiser did not do what it was asked for.
    """
    opset = opset_of(precision, operators)
    if precision == "fp32":
        return export_onnx(graph)
    if precision in DTYPES:
        return export_onnx(in_dtype(graph, DTYPES[precision]), opset=opset)
    assert calibration is not None, "int8 needs calibration images"
    model = quantize(export_onnx(with_flat_linears(graph), opset=opset), calibration, operators, external=external)
    check_contract(model, opset)
    return model
