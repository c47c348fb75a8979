import numpy as np
import onnx
import onnxruntime as ort
import pytest
import torch

from bootleg_bundle.errors import BundleFileError
from bootleg_bundle.manifest import GRAPH_OUTPUTS
from bootleg_export.bfloat16 import run_bfloat16
from bootleg_export.graph import in_dtype, reference_outputs
from bootleg_export.parity import GATES, measure
from bootleg_export.samples import natural_noise


@pytest.fixture(scope="module")
def pixels():
    return natural_noise(3, 32, 32, seed=7)


def test_onnx_runtime_has_no_kernels_for_it_on_a_processor_which_is_why_an_evaluator_runs_it(full_bundle):
    with pytest.raises(Exception, match="NOT_IMPLEMENTED"):
        ort.InferenceSession(str(full_bundle.graph("bf16")), providers=["CPUExecutionProvider"])


def test_the_evaluator_runs_the_file_as_exactly_as_pytorch_computes_in_bfloat16(full_bundle, serving_graph, pixels):
    exact = reference_outputs(serving_graph, pixels)
    torchs = reference_outputs(in_dtype(serving_graph, torch.bfloat16), pixels)
    found = run_bfloat16(full_bundle.graph("bf16"), pixels)
    for ours, theirs in zip(measure("bf16", exact, found), measure("bf16", exact, torchs), strict=True):
        assert GATES["bf16"].passes(ours), ours
        assert 1e-4 < ours.relative_frobenius < 2 * theirs.relative_frobenius


def test_mean_and_variance_are_taken_in_float32_as_runtimes_do(tmp_path):
    width = 32 * 32 * 3
    nodes = [
        onnx.helper.make_node("Cast", ["pixels"], ["narrow"], to=onnx.TensorProto.BFLOAT16),
        onnx.helper.make_node("Reshape", ["narrow", "flat"], ["row"]),
        onnx.helper.make_node("LayerNormalization", ["row", "ones"], ["normed"]),
        *(onnx.helper.make_node("Cast", ["normed"], [name], to=onnx.TensorProto.FLOAT) for name in GRAPH_OUTPUTS),
    ]
    outputs = [onnx.helper.make_tensor_value_info(n, onnx.TensorProto.FLOAT, ["batch", width]) for n in GRAPH_OUTPUTS]
    graph = onnx.helper.make_graph(
        nodes,
        "norm",
        [onnx.helper.make_tensor_value_info("pixels", onnx.TensorProto.UINT8, ["batch", 32, 32, 3])],
        outputs,
        [
            onnx.helper.make_tensor("ones", onnx.TensorProto.BFLOAT16, [width], [1.0] * width),
            onnx.numpy_helper.from_array(np.array([-1, width]), "flat"),
        ],
    )
    onnx.save(onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 23)]), tmp_path / "norm.onnx")
    pixels = natural_noise(1, 32, 32) // 8 + 200  # whole numbers up to 256 are exact; their mean is not
    row = pixels.reshape(1, -1).astype(np.float64)
    exact = (row - row.mean()) / row.std()
    found = run_bfloat16(tmp_path / "norm.onnx", pixels)["embedding"]
    assert np.linalg.norm(found - exact) < 4e-3 * np.linalg.norm(exact)  # one rounding to 8 bits


def test_a_file_with_a_changed_weight_does_not_pass(full_bundle, serving_graph, pixels, tmp_path):
    model = onnx.load(full_bundle.graph("bf16"))
    weight = max(model.graph.initializer, key=lambda tensor: len(tensor.raw_data))
    weight.raw_data = (np.frombuffer(weight.raw_data, np.uint16) ^ np.uint16(0x8000)).tobytes()  # its sign
    onnx.save(model, tmp_path / "bad.onnx")
    found = run_bfloat16(tmp_path / "bad.onnx", pixels)
    assert not all(
        GATES["bf16"].passes(row) for row in measure("bf16", reference_outputs(serving_graph, pixels), found)
    )


def test_what_is_no_graph_is_refused_by_name(tmp_path, pixels):
    (tmp_path / "encoder.bf16.onnx").write_bytes(b"nothing of the kind")
    with pytest.raises(BundleFileError, match=r"encoder\.bf16\.onnx"):
        run_bfloat16(tmp_path / "encoder.bf16.onnx", pixels)
