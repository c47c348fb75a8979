import re

import numpy as np
import onnx
import pytest

from bootleg_bundle.errors import BundleFileError, ConfigError
from bootleg_bundle.manifest import GOLDEN_OUTPUTS, GRAPH_OUTPUTS
from bootleg_export.verify import verify_bundle
from bootleg_export.verify_tasks import verify_tasks
from tests.contract.doctor import change_golden, rehash


def failed(checks):
    return [check.name for check in checks if not check.passed]


def test_a_good_bundle_passes_every_check(exported_bundle):
    checks = list(verify_bundle(exported_bundle))
    assert [check.name for check in checks] == [
        "hashes",
        "fp32 golden embedding",
        "fp32 golden patch_tokens",
        "fp32 golden layers",
        "fp32 batch invariance",
    ]
    assert failed(checks) == []


def test_a_changed_file_is_found_by_its_hash(doctored):
    graph = doctored / "encoder.fp32.onnx"
    data = bytearray(graph.read_bytes())
    data[len(data) // 2] ^= 1
    graph.write_bytes(data)
    with pytest.raises(BundleFileError, match=r"encoder\.fp32\.onnx"):
        list(verify_bundle(doctored))


@pytest.mark.parametrize("output", ["embedding", "patch_tokens", "layers"])
def test_a_golden_output_that_the_graph_does_not_give_is_found_though_the_hashes_agree(doctored, output):
    change_golden(doctored, output, lambda array: array * 1.001)
    assert failed(verify_bundle(doctored)) == [f"fp32 golden {output}"]


@pytest.mark.parametrize("output", ["embedding", "patch_tokens", "layers"])
def test_a_golden_output_that_is_not_finite_is_found(doctored, output):
    change_golden(doctored, output, lambda array: np.full_like(array, np.nan))
    assert failed(verify_bundle(doctored)) == [f"fp32 golden {output}"]


def test_a_graph_whose_answers_depend_on_their_batch_is_found(doctored):
    path = doctored / "encoder.fp32.onnx"
    model = onnx.load(path)
    (maker,) = (node for node in model.graph.node if "embedding" in node.output)
    maker.output[list(maker.output).index("embedding")] = "own"
    axes = onnx.numpy_helper.from_array(np.array([0], np.int64), "batch_axis")
    share = onnx.numpy_helper.from_array(np.array(1e-2, np.float32), "leak")
    model.graph.initializer.extend([axes, share])
    model.graph.node.extend(
        [
            onnx.helper.make_node("ReduceMean", ["own", "batch_axis"], ["mates"]),
            onnx.helper.make_node("Mul", ["mates", "leak"], ["leaked"]),
            onnx.helper.make_node("Add", ["own", "leaked"], ["embedding"]),
        ]
    )
    onnx.save(model, path)
    rehash(doctored, path.name)
    assert "fp32 batch invariance" in failed(verify_bundle(doctored))


def test_every_precision_is_compared_with_fp32_and_the_golden_outputs(full_bundle):
    checks = list(verify_bundle(full_bundle.path))
    assert failed(checks) == []
    names = {check.name for check in checks}
    for precision in ("fp16", "bf16", "int8"):
        assert {f"{precision} against fp32 {output}" for output in GRAPH_OUTPUTS} <= names
        assert {f"{precision} golden {output}" for output in GOLDEN_OUTPUTS} <= names
    assert {name for name in names if "batch" in name} == {f"{p} batch invariance" for p in ("fp32", "fp16", "int8")}


@pytest.mark.parametrize("precision", ["fp16", "int8"])
def test_a_precision_whose_graph_computes_something_else_is_found_though_the_hashes_agree(full_doctored, precision):
    path = full_doctored / f"encoder.{precision}.onnx"
    model = onnx.load(path)
    name = [node for node in model.graph.node if node.op_type == "LayerNormalization"][-1].input[1]
    (norm,) = (tensor for tensor in model.graph.initializer if tensor.name == name)
    array = onnx.numpy_helper.to_array(norm).copy()
    array[: len(array) // 2] *= -1
    norm.CopyFrom(onnx.numpy_helper.from_array(array, norm.name))
    onnx.save(model, path)
    rehash(full_doctored, path.name)
    names = failed(verify_bundle(full_doctored))
    assert f"{precision} against fp32 embedding" in names
    assert f"{precision} golden patch_tokens" in names
    assert all(name.startswith(precision) for name in names)


FILES = [*(f"encoder.{precision}.onnx" for precision in ("fp32", "fp16", "bf16", "int8")), "golden.npz", "README.md"]


def flip_a_bit(path):
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)


def make_a_link(path):
    path.rename(path.with_name("elsewhere"))
    path.symlink_to("elsewhere")


@pytest.mark.parametrize(
    "damage", [flip_a_bit, make_a_link, lambda path: path.unlink()], ids=["bit", "link", "missing"]
)
@pytest.mark.parametrize("name", FILES)
def test_any_damaged_file_is_refused_by_name(full_doctored, name, damage):
    damage(full_doctored / name)
    with pytest.raises(BundleFileError, match=re.escape(name)):
        list(verify_bundle(full_doctored))


def test_labelled_images_show_what_a_precision_costs(full_bundle, labelled):
    checks = list(verify_tasks(full_bundle.path, *labelled))
    assert [check.name.split(" on ")[0] for check in checks] == ["fp16 knn", "fp16 linear", "int8 knn", "int8 linear"]
    assert all("loses 0.00 points (<= 0.5)" in check.detail for check in checks)
    assert failed(checks) == []


def test_a_bundle_with_nothing_to_compare_is_told_before_anything_is_measured(exported_bundle, labelled):
    with pytest.raises(ConfigError, match="no other"):
        verify_tasks(exported_bundle, *labelled)
