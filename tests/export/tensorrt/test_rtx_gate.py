"""Every exported graph parses and builds with TensorRT for RTX, which shares TensorRT's parser and needs no GPU.

No proof for TensorRT itself, and nothing is run; but what fails here fails there.
"""

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from bootleg_bundle import default_bundle_path, open_bundle
from bootleg_bundle.engine_key import BATCHES
from bootleg_bundle.errors import EngineBuildError
from bootleg_export.tensorrt.build import prepare
from bootleg_service.tensorrt.library import make_logger

trt = pytest.importorskip("tensorrt_rtx", reason="tensorrt-rtx has wheels for Linux on x86-64 only: graphs not built")

CAPABILITY = trt.ComputeCapability.SM80  # datacentre parts begin here; TensorRT for RTX has no SM90


@pytest.fixture(scope="module", params=["shipped", "exported"])
def bundle(request):
    path = default_bundle_path() if request.param == "shipped" else request.getfixturevalue("exported_bundle")
    return open_bundle(path)


def built(graph, row, batches=BATCHES):
    build = prepare(trt, make_logger(trt), graph, row, batches)
    build.config.num_compute_capabilities = 1
    assert build.config.set_compute_capability(CAPABILITY, 0)
    return build.run()


def test_every_graph_of_a_bundle_builds_for_every_bucket(bundle):
    spec = bundle.manifest.preprocess
    for precision in bundle.manifest.graphs.keys() - {"int8"}:  # for processors: it is refused by name
        graph = bundle.graph(precision)
        plan = built(graph, (spec.height, spec.width, 3))
        weights = sum(np.prod(tensor.dims) for tensor in onnx.load(graph).graph.initializer)
        assert len(plan) > weights  # one byte for each, at the least


def test_tf32_is_off(bundle):
    spec = bundle.manifest.preprocess
    build = prepare(trt, make_logger(trt), bundle.graph("fp32"), (spec.height, spec.width, 3), (1,))
    assert not build.config.get_flag(trt.BuilderFlag.TF32)
    assert build.config.num_optimization_profiles == 1


def one_node(path, node, *, dtype=TensorProto.UINT8):
    inputs = [helper.make_tensor_value_info("pixels", dtype, ["batch", 4, 4, 3])]
    outputs = [helper.make_tensor_value_info("embedding", dtype, None)]
    opsets = [helper.make_opsetid("", 20), helper.make_opsetid("made.up", 1)]
    onnx.save(helper.make_model(helper.make_graph([node], "g", inputs, outputs), opset_imports=opsets), path)
    return path


def test_an_operator_that_tensorrt_does_not_have_is_named(tmp_path):
    path = one_node(tmp_path / "odd.onnx", helper.make_node("Bootstrap", ["pixels"], ["embedding"], domain="made.up"))
    with pytest.raises(EngineBuildError, match=r"cannot parse odd\.onnx: Bootstrap"):
        prepare(trt, make_logger(trt), path, (4, 4, 3), (1,))


def test_pixels_that_are_moved_before_they_are_cast_are_refused(tmp_path):
    node = helper.make_node("Transpose", ["pixels"], ["embedding"], perm=[0, 3, 1, 2])
    with pytest.raises(EngineBuildError):
        built(one_node(tmp_path / "moved.onnx", node), (4, 4, 3), (1,))


def test_a_file_that_is_no_graph_is_refused_in_one_line(tmp_path):
    (tmp_path / "none.onnx").write_bytes(b"no graph")
    with pytest.raises(EngineBuildError, match=r"cannot parse none\.onnx") as caught:
        prepare(trt, make_logger(trt), tmp_path / "none.onnx", (4, 4, 3), (1,))
    assert "\n" not in caught.value.message


def test_a_bucket_that_the_graph_cannot_take_is_refused(bundle):
    spec = bundle.manifest.preprocess
    with pytest.raises((EngineBuildError, ValueError)):
        built(bundle.graph("fp32"), (spec.height + 1, spec.width, 3), (1,))
