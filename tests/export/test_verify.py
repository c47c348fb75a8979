import numpy as np
import onnx
import pytest

from bootleg_bundle.errors import BundleFileError
from bootleg_export.verify import verify_bundle
from tests.contract.doctor import change_golden, rehash


def failed(checks):
    return [check.name for check in checks if not check.passed]


def test_a_good_bundle_passes_every_check(exported_bundle):
    checks = verify_bundle(exported_bundle)
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
        verify_bundle(doctored)


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
