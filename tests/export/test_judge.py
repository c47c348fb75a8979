import numpy as np
import onnx
import pytest
from onnxruntime.quantization import QuantType, quantize_dynamic

from bootleg_export.judge import GraphFile, graph_file, judged_images


@pytest.mark.parametrize("precision", ["fp32", "int8"])
def test_an_image_has_the_same_bits_alone_and_in_any_batch(full_bundle, precision):
    file = graph_file(full_bundle, precision)
    assert file.batch_invariance(32, 32) == 0
    assert full_bundle.manifest.graphs[precision].batch_invariance == 0


def test_dynamic_int8_leaks_between_the_images_of_a_batch_and_does_not_pass(full_bundle, tmp_path):
    path = tmp_path / "dynamic.onnx"
    model = onnx.load(full_bundle.graph("fp32"))
    quantize_dynamic(model, path, weight_type=QuantType.QInt8, per_channel=True)
    file = GraphFile("int8", path, ())
    difference = file.batch_invariance(32, 32)
    assert difference > 1e-4
    assert file.invariance_fault(difference).startswith("batch invariance")


def test_what_only_an_evaluator_runs_has_no_batch_invariance(full_bundle):
    file = graph_file(full_bundle, "bf16")
    assert file.batch_invariance(32, 32) is None
    assert file.invariance_fault(None) is None
    assert full_bundle.manifest.graphs["bf16"].batch_invariance is None


def test_every_image_judges_but_for_a_slow_precision_a_few_of_each_kind():
    assert judged_images("int8", 64, 20).tolist() == list(range(84))
    assert judged_images("bf16", 64, 20).tolist() == [0, 1, 2, 3, 64, 65, 66, 67]
    assert judged_images("bf16", 64, 0).tolist() == [0, 1, 2, 3]


def test_a_graph_runs_in_the_batches_asked_for(full_bundle):
    pixels = np.zeros((5, 32, 32, 3), np.uint8)
    outputs = graph_file(full_bundle, "fp16").run(pixels, (2, 3))
    assert outputs["embedding"].shape == (5, 32)
    assert outputs["embedding"].dtype == np.float32
