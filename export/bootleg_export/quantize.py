"""Static int8: linear layers in 8 bits with ranges taken from calibration images, everything else float32.

Build calls it with a graph of flat linear layers, and with attention spelt out when its products are to follow.
Weights are signed, with a scale for each output channel; activations signed, with one scale and zero point. Products
come out in float32, so that residual stream, normalisation and softmax keep their range: with 8-bit products the
tokens' error is five times as large and nothing is faster. Never dynamic int8, whose scale is that of the whole batch:
one request's answer would change with its neighbours (by 2 %, measured). For processors: TensorRT does not read the
32-bit biases.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Final

import onnx
from onnxruntime.quantization import CalibrationDataReader, CalibrationMethod, QuantFormat, QuantType, quantize_static
from onnxruntime.quantization.quant_utils import add_pre_process_metadata

from bootleg_bundle.errors import ParityError
from bootleg_bundle.manifest import GRAPH_INPUT
from bootleg_export.external_data import save_model
from bootleg_export.to_onnx import strip_metadata

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np
    from numpy.typing import NDArray

BATCH = 8
OPERATORS: Final = {"linear": "Gemm", "attention": "MatMul"}
"""ONNX operators by what they are in a graph of flat linear layers."""

NAMES: Final = {"linear": "linear layers", "attention": "products of attention"}


def quantize(
    model: onnx.ModelProto, calibration: NDArray[np.uint8], operators: Sequence[str], *, external: bool = False
) -> onnx.ModelProto:
    """Quantise a float32 model.

    Args:
        model: a graph with flat linear layers (:func:`bootleg_export.graph.with_flat_linears`), attention being one
            operator unless ``operators`` has it; consumed.
        calibration: uint8 ``[n, H, W, 3]``, the images that set the ranges.
        operators: some of ``OPERATORS``.
        external: for models too large for one file.

    Raises:
        ParityError: one of these operators was left in float32.
    """
    types = [OPERATORS[name] for name in operators]
    add_pre_process_metadata(model)  # else the quantiser advises steps that torch's exporter has done already
    with tempfile.TemporaryDirectory(prefix="bootleg-int8-") as folder:
        source, target = Path(folder, "source.onnx"), Path(folder, "target.onnx")
        save_model(model, source, external=external)
        quantize_static(
            source,
            target,
            _Reader(calibration),
            quant_format=QuantFormat.QDQ,
            op_types_to_quantize=types,
            per_channel=True,
            activation_type=QuantType.QInt8,
            weight_type=QuantType.QInt8,
            calibrate_method=CalibrationMethod.MinMax,
            use_external_data_format=external,
            extra_options={"OpTypesToExcludeOutputQuantization": types},
        )
        quantized = onnx.load(target)
    strip_metadata(quantized)
    graph = quantized.graph
    sources = {node.output[0]: node.input[0] for node in graph.node if node.op_type == "DequantizeLinear"}
    stored = {tensor.name for tensor in graph.initializer}
    for name, kind in zip(operators, types, strict=True):
        factors = [node.input[:2] for node in graph.node if node.op_type == kind]
        # Both come from 8 bits; the weights of a linear layer from 8 bits that are stored as such.
        done = sum(sources.keys() >= set(pair) and (name != "linear" or sources[pair[1]] in stored) for pair in factors)
        if done != len(factors):
            raise ParityError(f"int8: the quantiser took {done} of {len(factors)} {NAMES[name]}")
    return quantized


class _Reader(CalibrationDataReader):  # type: ignore[misc]
    """The images in batches, as the calibrator takes them."""

    def __init__(self, pixels: NDArray[np.uint8]) -> None:
        self._batches = iter([pixels[start : start + BATCH] for start in range(0, len(pixels), BATCH)])

    def get_next(self) -> dict[str, NDArray[np.uint8]] | None:
        batch = next(self._batches, None)
        return None if batch is None else {GRAPH_INPUT: batch}
