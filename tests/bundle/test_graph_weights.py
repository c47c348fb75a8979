"""Where a graph's weights lie, read without ONNX and compared with what ONNX itself says."""

import onnx
import pytest
from onnx import TensorProto, helper

from bootleg_bundle.graph_weights import TABLE, weight_files


def kind_of(message):
    return message.full_name.removeprefix("onnx.").removesuffix("Proto")


def leading_to_tensors(message, seen):
    """By message: the fields through which a tensor's external data can be reached."""
    seen.setdefault(kind_of(message), {})
    for field in message.fields:
        if field.message_type is None:
            continue
        inner = field.message_type
        if kind_of(inner) not in seen:
            leading_to_tensors(inner, seen)
        seen[kind_of(message)][field.number] = kind_of(inner)
    return seen


def test_the_table_has_every_way_to_a_tensor_that_onnx_has():
    everything = leading_to_tensors(onnx.ModelProto.DESCRIPTOR, {})
    ways = {"Tensor"}
    while True:
        more = {kind for kind, fields in everything.items() if ways & set(fields.values())} | ways
        if more == ways:
            break
        ways = more
    expected = {
        kind: {number: inner for number, inner in everything[kind].items() if inner in ways}
        for kind in ways - {"Tensor"}
    }
    assert {kind: fields for kind, fields in TABLE.items() if kind != "Tensor"} == expected
    external = onnx.TensorProto.DESCRIPTOR.fields_by_name["external_data"]
    assert TABLE["Tensor"] == {external.number: kind_of(external.message_type)}


def tensor(location):
    made = TensorProto(name="w", data_type=TensorProto.FLOAT, dims=[1], data_location=TensorProto.EXTERNAL)
    made.external_data.add(key="length", value="4")
    made.external_data.add(key="location", value=location)
    return made


def model():
    """A graph that names a file in every place that can."""
    branch = helper.make_graph([], "branch", [], [], [tensor("branch.bin")])
    sparse = onnx.SparseTensorProto(values=tensor("values.bin"), indices=tensor("indices.bin"), dims=[1])
    nodes = [
        helper.make_node("Constant", [], ["c"], value=tensor("constant.bin")),
        helper.make_node("If", ["c"], ["d"], then_branch=branch),
        helper.make_node("Constant", [], ["e"], sparse_value=sparse),
    ]
    made = helper.make_model(helper.make_graph(nodes, "g", [], [], [tensor("initializer.bin")]))
    made.functions.append(helper.make_function("d", "f", [], ["x"], [nodes[0]], []))
    made.functions[0].node[0].attribute[0].t.external_data[1].value = "function.bin"
    return made


EVERYWHERE = {"branch.bin", "values.bin", "indices.bin", "constant.bin", "initializer.bin", "function.bin"}


def test_files_are_found_wherever_a_graph_can_name_them(tmp_path):
    (tmp_path / "g.onnx").write_bytes(model().SerializeToString())
    assert weight_files(tmp_path / "g.onnx") == EVERYWHERE


def test_a_group_that_nobody_knows_hides_nothing_behind_it(tmp_path):
    (tmp_path / "g.onnx").write_bytes(b"\xf3\x07\xf4\x07" + model().SerializeToString())  # field 126, begun and ended
    assert weight_files(tmp_path / "g.onnx") == EVERYWHERE


@pytest.mark.parametrize("data", [b"", b"no graph", b"\xff" * 100, b"\x3a\xff\xff\xff\x7f", b"\x3a"])
def test_what_is_no_graph_names_nothing(tmp_path, data):
    (tmp_path / "g.onnx").write_bytes(data)
    assert weight_files(tmp_path / "g.onnx") == set()
