"""One head as an ONNX model, and what its graph must keep of the bundle's contract.

The export of heads calls it; what it writes has been compared with nothing yet.
"""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING

import onnx
import torch

from bootleg_bundle.errors import ParityError
from bootleg_bundle.manifest import HEAD_OUTPUT
from bootleg_export.to_onnx import EXAMPLE_BATCH, OPSET, strip_metadata

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from torch import nn


def export_head(head: nn.Module, name: str, row: Sequence[int], file: Path) -> tuple[int, int]:
    """Write one head as a single-file ONNX model with a dynamic batch and no trace of this machine.

    Args:
        head: takes ``[B, *row]``, gives logits ``[B, C, h, w]``.
        name: of its input.
        row: shape of one image's tokens.
        file: to write.

    Returns:
        ``(h, w)`` of the logits.

    Raises:
        ParityError: the written graph does not keep the bundle's contract.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the exporter warns about its own internals
        program = torch.onnx.export(
            head.eval(),
            (torch.zeros(EXAMPLE_BATCH, *row),),
            input_names=[name],
            output_names=[HEAD_OUTPUT],
            dynamic_shapes=({0: torch.export.Dim("batch", min=1, max=4096)},),
            opset_version=OPSET,
            dynamo=True,
            external_data=False,
            verbose=False,
        )
    assert program is not None
    model: onnx.ModelProto = program.model_proto
    strip_metadata(model)
    grid = check_head(model, name, tuple(row))
    onnx.checker.check_model(model)
    file.write_bytes(model.SerializeToString(deterministic=True))
    return grid


def check_head(model: onnx.ModelProto, name: str, row: tuple[int, ...]) -> tuple[int, int]:
    """Compare a head's graph with the bundle's contract: opset, names, float32, symbolic batch, fixed sides.

    Returns:
        ``(h, w)`` of the logits.

    Raises:
        ParityError: naming what differs.
    """
    opsets = {entry.domain: entry.version for entry in model.opset_import}
    if opsets != {"": OPSET}:
        raise ParityError(f"the exporter wrote a head of opsets {opsets}; {OPSET} was asked for, of no other domain")
    (given, *more_in), (answer, *more_out) = model.graph.input, model.graph.output
    if more_in or more_out or (given.name, answer.name) != (name, HEAD_OUTPUT):
        raise ParityError(
            f"the exported head maps {given.name} to {answer.name}; the contract is {name} to {HEAD_OUTPUT}"
        )
    for value in (given, answer):
        if value.type.tensor_type.elem_type != onnx.TensorProto.FLOAT:
            raise ParityError(f"{value.name}: the exporter wrote another element type than float32")
        if not value.type.tensor_type.shape.dim[0].dim_param:
            raise ParityError(f"{value.name}: the exporter fixed the batch dimension")
    sides = [[dim.dim_value for dim in value.type.tensor_type.shape.dim[1:]] for value in (given, answer)]
    if tuple(sides[0]) != row or len(sides[1]) != 3 or not all(sides[1]):
        raise ParityError(f"the exported head maps rows {sides[0]} to {sides[1]}; its input's rows are {list(row)}")
    return sides[1][1], sides[1][2]
