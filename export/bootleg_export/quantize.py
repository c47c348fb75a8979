"""Static int8: linear layers in 8 bits with ranges taken from calibration images, everything else float32.

Build calls it with a graph of flat linear layers. Weights are signed, with a scale for each output channel;
activations signed, with one scale and zero point. Products come out in float32, so that residual stream,
normalisation and attention keep their range: with 8-bit products the tokens' error is five times as large and nothing
is faster. Never dynamic int8, whose scale is that of the whole batch: one request's answer would change with its
neighbours (by 2 %, measured). For processors: TensorRT does not read the 32-bit biases.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import onnx
from onnxruntime.quantization import CalibrationDataReader, CalibrationMethod, QuantFormat, QuantType, quantize_static
from onnxruntime.quantization.quant_utils import add_pre_process_metadata

from bootleg_bundle.errors import ParityError
from bootleg_bundle.manifest import GRAPH_INPUT
from bootleg_export.external_data import save_model
from bootleg_export.to_onnx import strip_metadata

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

BATCH = 8
LINEAR = "Gemm"


def quantize(model: onnx.ModelProto, calibration: NDArray[np.uint8], *, external: bool = False) -> onnx.ModelProto:
    """Quantise every linear layer of a float32 model.

    Args:
        model: a graph with flat linear layers (:func:`bootleg_export.graph.with_flat_linears`) and attention as one
            operator; consumed.
        calibration: uint8 ``[n, H, W, 3]``, the images that set the ranges.
        external: for models too large for one file.

    Raises:
        ParityError: a linear layer was left in float32.
    """
    linears = sum(node.op_type == LINEAR for node in model.graph.node)
    add_pre_process_metadata(model)  # else the quantiser advises steps that torch's exporter has done already
    with tempfile.TemporaryDirectory(prefix="bootleg-int8-") as folder:
        source, target = Path(folder, "source.onnx"), Path(folder, "target.onnx")
        save_model(model, source, external=external)
        quantize_static(
            source,
            target,
            _Reader(calibration),
            quant_format=QuantFormat.QDQ,
            op_types_to_quantize=[LINEAR],
            per_channel=True,
            activation_type=QuantType.QInt8,
            weight_type=QuantType.QInt8,
            calibrate_method=CalibrationMethod.MinMax,
            use_external_data_format=external,
            extra_options={"OpTypesToExcludeOutputQuantization": [LINEAR]},
        )
        quantized = onnx.load(target)
    strip_metadata(quantized)
    done = sum(node.op_type == "QuantizeLinear" for node in quantized.graph.node)
    if done != linears:
        raise ParityError(f"int8: the quantiser took {done} of {linears} linear layers")
    return quantized


class _Reader(CalibrationDataReader):  # type: ignore[misc]
    """The images in batches, as the calibrator takes them."""

    def __init__(self, pixels: NDArray[np.uint8]) -> None:
        self._batches = iter([pixels[start : start + BATCH] for start in range(0, len(pixels), BATCH)])

    def get_next(self) -> dict[str, NDArray[np.uint8]] | None:
        batch = next(self._batches, None)
        return None if batch is None else {GRAPH_INPUT: batch}
