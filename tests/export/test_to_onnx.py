from pathlib import Path

import onnx
import pytest

import bootleg_export
from bootleg_bundle.errors import ParityError
from bootleg_export.to_onnx import OPSET, check_contract, export_onnx


@pytest.fixture(scope="session")
def written(bundle):
    return onnx.load(bundle.graph("fp32"))


@pytest.fixture
def model(written):
    copy = onnx.ModelProto()
    copy.CopyFrom(written)
    return copy


def dims(value):
    return [dim.dim_param or dim.dim_value for dim in value.type.tensor_type.shape.dim]


def test_the_input_is_named_pixels_and_takes_8_bit_channels_last_images_in_any_number(written):
    (pixels,) = written.graph.input
    assert pixels.name == "pixels"
    assert pixels.type.tensor_type.elem_type == onnx.TensorProto.UINT8
    batch, *image = dims(pixels)
    assert isinstance(batch, str)
    assert image == [32, 32, 3]


def test_the_outputs_are_embedding_patch_tokens_and_layers_pooled_or_not_in_float32_with_the_batch_of_the_input(
    written,
):
    batch = dims(written.graph.input[0])[0]
    assert {value.name: dims(value) for value in written.graph.output} == {
        "embedding": [batch, 32],
        "patch_tokens": [batch, 8, 8, 32],
        "layers": [batch, 3, 32],
        "layer_tokens": [batch, 3, 8, 8, 32],
    }
    assert {value.type.tensor_type.elem_type for value in written.graph.output} == {onnx.TensorProto.FLOAT}


def test_the_opset_is_20_and_no_other_domain_is_needed(written):
    assert OPSET == 20
    assert {entry.domain: entry.version for entry in written.opset_import} == {"": 20}


def test_the_graph_is_one_file_without_external_data(written):
    assert not [t.name for t in written.graph.initializer if t.data_location == onnx.TensorProto.EXTERNAL]


def test_no_node_or_value_carries_metadata_or_documentation(written):
    graph = written.graph
    parts = [graph, *graph.node, *graph.value_info, *graph.input, *graph.output, *graph.initializer]
    assert not [part.name for part in parts if part.metadata_props or part.doc_string]
    assert not written.metadata_props
    assert not written.doc_string


def test_the_only_computation_on_8_bit_pixels_is_a_cast_which_is_all_that_tensorrt_accepts(written):
    users = {node.op_type for node in written.graph.node if "pixels" in node.input}
    assert users - {"Shape"} == {"Cast"}


@pytest.mark.parametrize("trace", ["site-packages", ".py", "/home/", str(Path.home()), "Traceback"])
def test_the_file_holds_no_trace_of_the_machine_it_was_made_on(bundle, trace):
    assert trace.encode() not in bundle.graph("fp32").read_bytes()


def test_the_file_does_not_name_the_repository_it_was_made_in(bundle):
    root = Path(bootleg_export.__file__).parents[2]
    assert str(root).encode() not in bundle.graph("fp32").read_bytes()


def test_a_model_that_keeps_the_contract_passes(model):
    check_contract(model)


@pytest.mark.parametrize("opset", [26, 27])
def test_an_opset_that_the_exporter_would_write_as_another_without_a_word_is_not_asked_for(serving_graph, opset):
    with pytest.raises(ParityError, match="at most 25"):
        export_onnx(serving_graph, opset=opset)


@pytest.mark.parametrize("opset", [18, 21, 26])
def test_another_opset_than_asked_for_is_refused(model, opset):
    model.opset_import[0].version = opset
    with pytest.raises(ParityError, match=f"opset {opset}"):
        check_contract(model)


@pytest.mark.parametrize("end", ["input", "output"])
def test_a_frozen_batch_is_refused(model, end):
    value = getattr(model.graph, end)[0]
    value.type.tensor_type.shape.dim[0].dim_value = 2
    with pytest.raises(ParityError, match="batch dimension to 2"):
        check_contract(model)


def test_a_renamed_output_is_refused(model):
    model.graph.output[0].name = "features"
    with pytest.raises(ParityError, match="features"):
        check_contract(model)


def test_an_input_of_another_dtype_is_refused(model):
    model.graph.input[0].type.tensor_type.elem_type = onnx.TensorProto.FLOAT
    with pytest.raises(ParityError, match="pixels"):
        check_contract(model)


def test_an_output_of_another_dtype_is_refused(model):
    model.graph.output[0].type.tensor_type.elem_type = onnx.TensorProto.FLOAT16
    with pytest.raises(ParityError, match="embedding"):
        check_contract(model)
