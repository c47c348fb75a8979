from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, numpy_helper

import bootleg_export
from bootleg_bundle.errors import ConfigError, ParityError
from bootleg_export import precisions
from bootleg_export.build import build_bundle
from bootleg_export.external_data import save_model
from bootleg_export.options import ExportOptions
from bootleg_export.precisions import OPSETS, make_model, parse_precisions

LOWER = ["fp16", "bf16", "int8"]
LINEARS = 3 * 4 + 1  # tests.contract.tiny: four in each block, and the patch embedding


@pytest.fixture(scope="module")
def models(full_bundle):
    return {precision: onnx.load(full_bundle.graph(precision)) for precision in OPSETS}


def test_precisions_are_read_in_a_fixed_order_and_fp32_is_always_there():
    assert parse_precisions("int8, FP16,fp32,int8") == ("fp16", "int8")
    assert parse_precisions("") == ()


@pytest.mark.parametrize("name", ["dynamic", "int8-dynamic", "dynamic_int8"])
def test_dynamic_int8_is_refused_with_the_reason(name):
    with pytest.raises(ConfigError, match="one image's answer changes with its neighbours"):
        parse_precisions(f"fp16,{name}")


def test_an_unknown_precision_is_refused_by_name_with_the_choice():
    with pytest.raises(ConfigError, match=r"'fp8': choose among fp32, fp16, bf16, int8"):
        parse_precisions("fp8")


@pytest.mark.parametrize("precision", OPSETS)
def test_the_opset_written_is_the_one_asked_for_and_no_other_domain_is_needed(models, full_bundle, precision):
    assert {entry.domain: entry.version for entry in models[precision].opset_import} == {"": OPSETS[precision]}
    assert full_bundle.manifest.graphs[precision].opset == OPSETS[precision] <= 25


@pytest.mark.parametrize("precision", OPSETS)
def test_pixels_meet_a_cast_first_and_every_output_is_float32(models, precision):
    graph = models[precision].graph
    assert {node.op_type for node in graph.node if "pixels" in node.input} - {"Shape"} == {"Cast"}
    assert {value.type.tensor_type.elem_type for value in graph.output} == {TensorProto.FLOAT}


@pytest.mark.parametrize("precision", OPSETS)
def test_no_part_of_a_graph_carries_metadata_or_documentation(models, precision):
    model, graph = models[precision], models[precision].graph
    parts = [model, graph, *graph.node, *graph.value_info, *graph.input, *graph.output, *graph.initializer]
    assert not [part for part in parts if part.metadata_props or part.doc_string]


@pytest.mark.parametrize("precision", OPSETS)
@pytest.mark.parametrize(
    "trace", ["site-packages", ".py", "/tmp", "Traceback", str(Path(bootleg_export.__file__).parents[2])]
)
def test_no_file_holds_a_trace_of_the_machine_it_was_made_on(full_bundle, precision, trace):
    assert trace.encode() not in full_bundle.graph(precision).read_bytes()


@pytest.mark.parametrize(("precision", "kind"), [("fp16", TensorProto.FLOAT16), ("bf16", TensorProto.BFLOAT16)])
def test_weights_of_a_16_bit_graph_have_16_bits_and_attention_is_one_operator(models, precision, kind):
    graph = models[precision].graph
    large = [tensor for tensor in graph.initializer if len(tensor.dims) == 2 and min(tensor.dims) > 8]
    assert large
    assert {tensor.data_type for tensor in large} == {kind}
    assert sum(node.op_type == "Attention" for node in graph.node) == 3


def test_in_int8_every_linear_layer_and_nothing_else_is_quantised_with_a_scale_for_each_channel(models):
    graph = models["int8"].graph
    tensors = {tensor.name: tensor for tensor in graph.initializer}
    weights = [tensor for tensor in graph.initializer if tensor.data_type == TensorProto.INT8 and len(tensor.dims) == 2]
    assert len(weights) == LINEARS
    users = {name: node for node in graph.node if node.op_type == "DequantizeLinear" for name in node.input[:1]}
    for weight in weights:
        assert len(numpy_helper.to_array(tensors[users[weight.name].input[1]])) > 1
    assert sum(node.op_type == "QuantizeLinear" for node in graph.node) == LINEARS
    assert sum(node.op_type == "Attention" for node in graph.node) == 3
    assert sum(node.op_type == "MatMul" for node in graph.node) == 0


def test_attentions_products_are_quantised_when_they_are_asked_for_and_the_file_says_so(
    tiny_checkpoint, photographs, tmp_path
):
    options = ExportOptions(("int8",), str(photographs), int8_attention=True)
    built = build_bundle(tiny_checkpoint, tmp_path / "wide", name="wide", options=options)
    graph = onnx.load(built.bundle.graph("int8")).graph
    integers = {name for node in graph.node if node.op_type == "DequantizeLinear" for name in node.output}
    products = [node for node in graph.node if node.op_type == "MatMul"]
    assert len(products) == 2 * 3
    assert all(integers.issuperset(node.input) for node in products)
    record = built.bundle.manifest.graphs["int8"]
    assert (record.calibration.operators, record.opset) == (("linear", "attention"), OPSETS["fp32"])


def test_the_ranges_come_from_the_calibration_images(serving_graph, calibration, full_bundle, tmp_path):
    dark = make_model(serving_graph, "int8", calibration.ranges // 16)
    save_model(dark, tmp_path / "dark.onnx", external=False)
    assert (tmp_path / "dark.onnx").read_bytes() != full_bundle.graph("int8").read_bytes()


@pytest.mark.parametrize("precision", LOWER)
def test_exporting_again_gives_the_same_file_byte_for_byte(
    serving_graph, calibration, full_bundle, tmp_path, precision
):
    model = make_model(serving_graph, precision, calibration.ranges, external=True)  # on the way only
    for tensor in model.graph.initializer:
        tensor.ClearField("data_location")  # says that it lay in another file for a while
    save_model(model, tmp_path / "again.onnx", external=False)
    assert (tmp_path / "again.onnx").read_bytes() == full_bundle.graph(precision).read_bytes()


def test_making_a_lower_precision_leaves_the_float32_graph_as_it_was(serving_graph, quick_export):
    before = {name: array.clone() for name, array in serving_graph.state_dict().items()}
    make_model(serving_graph, "fp16")
    after = serving_graph.state_dict()
    assert all(after[name].dtype == array.dtype and after[name].equal(array) for name, array in before.items())


def test_a_linear_layer_that_the_quantiser_leaves_out_is_an_error(serving_graph, calibration, monkeypatch, full_bundle):
    def without(model):
        """As an exporter that names an operator's weight by another: no constant, so no weight to the quantiser."""
        node = next(node for node in model.graph.node if node.op_type == "Gemm")
        model.graph.node.insert(0, onnx.helper.make_node("Identity", [node.input[1]], ["moved"]))
        node.input[1] = "moved"
        return model

    from bootleg_export import to_onnx

    def moved(graph, *, opset=20):
        return without(to_onnx.export_onnx(graph, opset=opset))

    monkeypatch.setattr(precisions, "export_onnx", moved)
    with pytest.raises(ParityError, match=f"of {LINEARS} linear layers"):
        make_model(serving_graph, "int8", np.array(calibration.ranges[:8]))
