"""One call of the exporter, and the clean-up that makes its output portable and reproducible.

Build calls it for every precision; what it writes has been compared with nothing yet.
"""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING

import onnx
import torch

from bootleg_bundle.errors import ParityError
from bootleg_bundle.manifest import GRAPH_INPUT, GRAPH_OUTPUTS

if TYPE_CHECKING:
    from bootleg_export.graph import ServingGraph

OPSET = 20
"""Runs on every target tried."""

ATTENTION_OPSET = 23
"""Attention is one operator, with fast 16-bit kernels. Not for fp32: TensorRT builds no float32 attention of it."""

MAX_OPSET = 25
"""Asked for 26 or more, the exporter (torch 2.13) writes an invalid opset-18 file without a word."""

EXAMPLE_BATCH = 2
"""Not 1: some exporter versions fix a dimension whose example size is 1."""


def export_onnx(graph: ServingGraph, *, opset: int = OPSET) -> onnx.ModelProto:
    """Export ``graph`` with a dynamic batch and no trace of this machine.

    Raises:
        ParityError: an opset over ``MAX_OPSET``; the exporter wrote another than asked, or froze the batch dimension.
    """
    if opset > MAX_OPSET:
        raise ParityError(f"opset {opset}: the exporter writes at most {MAX_OPSET}")
    size = graph.encoder.config.image_size
    example = torch.zeros(EXAMPLE_BATCH, size, size, 3, dtype=torch.uint8)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the exporter warns about its own internals
        program = torch.onnx.export(
            graph.eval(),
            (example,),
            input_names=[GRAPH_INPUT],
            output_names=list(GRAPH_OUTPUTS),
            dynamic_shapes={"pixels": {0: torch.export.Dim("batch", min=1, max=4096)}},
            opset_version=opset,
            dynamo=True,
            external_data=False,
            verbose=False,
        )
    assert program is not None
    model: onnx.ModelProto = program.model_proto
    strip_metadata(model)
    check_contract(model, opset)
    return model


def strip_metadata(model: onnx.ModelProto) -> None:
    """Delete what the exporter says about its source: stack traces with absolute paths, on every node.

    Value infos stay: deleting them too would change which nodes a runtime fuses.
    """
    del model.metadata_props[:]
    model.doc_string = ""
    del model.graph.metadata_props[:]
    for items in (model.graph.node, model.graph.value_info, model.graph.input, model.graph.output):
        for item in items:
            item.doc_string = ""
            del item.metadata_props[:]
    for tensor in model.graph.initializer:
        tensor.doc_string = ""
        del tensor.metadata_props[:]
    for function in model.functions:
        del function.metadata_props[:]
        for node in function.node:
            node.doc_string = ""
            del node.metadata_props[:]


def check_contract(model: onnx.ModelProto, opset: int = OPSET) -> None:
    """Compare the written graph with the bundle's contract: opset, names, dtype, symbolic batch."""
    opsets = {entry.domain: entry.version for entry in model.opset_import}
    if opsets.get("") != opset:
        raise ParityError(f"the exporter wrote opset {opsets.get('')}; {opset} was asked for")
    inputs = [value.name for value in model.graph.input]
    outputs = [value.name for value in model.graph.output]
    if inputs != [GRAPH_INPUT] or outputs != list(GRAPH_OUTPUTS):
        raise ParityError(
            f"the exported graph maps {inputs} to {outputs}; the contract is {GRAPH_INPUT} to {list(GRAPH_OUTPUTS)}"
        )
    for value in (*model.graph.input, *model.graph.output):
        wanted = onnx.TensorProto.UINT8 if value.name == GRAPH_INPUT else onnx.TensorProto.FLOAT
        if value.type.tensor_type.elem_type != wanted:
            raise ParityError(f"{value.name}: the exporter wrote another element type than the contract's")
        batch = value.type.tensor_type.shape.dim[0]
        if not batch.dim_param:
            raise ParityError(f"{value.name}: the exporter fixed the batch dimension to {batch.dim_value}")
