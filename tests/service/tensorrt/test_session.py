import json

import numpy as np
import pytest

from bootleg_bundle.manifest import GRAPH_INPUT, GRAPH_OUTPUTS
from bootleg_service.errors import StartupError
from bootleg_service.tensorrt.cuda import Cuda, CudaError
from bootleg_service.tensorrt.session import TensorRtSession
from tests.bundles import DIM, GRID, SIDE, reference


def plan(batches=(1, 8, 32), **tensors):
    smallest = [1, *(batch + 1 for batch in batches[:-1])]
    shapes = {
        "pixels": [[-1, SIDE, SIDE, 3], "UINT8"],
        "embedding": [[-1, DIM], "FLOAT"],
        "patch_tokens": [[-1, GRID, GRID, DIM], "FLOAT"],
        "layers": [[-1, 2, DIM], "FLOAT"],
        "layer_tokens": [[-1, 2, GRID, GRID, DIM], "FLOAT"],
        **tensors,
    }
    row = [SIDE, SIDE, 3]
    profiles = [[[low, *row], [high, *row], [high, *row]] for low, high in zip(smallest, batches, strict=True)]
    return json.dumps({"tensors": {k: v for k, v in shapes.items() if v}, "profiles": profiles}).encode()


@pytest.fixture
def session(gpu, tiny_bundle):
    return TensorRtSession(gpu.trt, Cuda(), plan(), tiny_bundle.manifest)


def images(count, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (count, SIDE, SIDE, 3), np.uint8)


@pytest.mark.parametrize(("count", "bucket"), [(1, 0), (2, 1), (8, 1), (9, 2), (32, 2)])
def test_a_batch_goes_to_the_smallest_bucket_that_holds_it_with_its_own_size(gpu, session, count, bucket):
    pixels = images(count)
    answers = session.run({GRAPH_INPUT: pixels}, GRAPH_OUTPUTS)
    assert gpu.trt.ran == [(bucket, count)]
    for name, expected in reference(pixels).items():
        assert answers[name].dtype == np.float32
        np.testing.assert_array_equal(answers[name], expected)


def test_a_batch_above_the_largest_bucket_is_computed_in_pieces(gpu, session):
    pixels = images(70)
    answers = session.run({GRAPH_INPUT: pixels}, ["embedding"])
    assert gpu.trt.ran == [(2, 32), (2, 32), (1, 6)]
    np.testing.assert_array_equal(answers["embedding"], reference(pixels)["embedding"])


def test_answers_are_the_callers_own_and_outlive_the_next_batch(session):
    first = session.run({GRAPH_INPUT: images(3, 1)}, ["embedding"])["embedding"]
    before = first.copy()
    session.run({GRAPH_INPUT: images(3, 2)}, ["embedding"])
    np.testing.assert_array_equal(first, before)


def test_only_what_was_asked_comes_back_from_the_gpu(gpu, session):
    gpu.driver.calls.clear()
    assert list(session.run({GRAPH_INPUT: images(2)}, ["layers"])) == ["layers"]
    assert gpu.driver.calls.count("cuMemcpyDtoHAsync_v2") == 1
    assert gpu.driver.calls[-1] == "cuStreamSynchronize"


def test_pixels_that_do_not_lie_in_one_piece_are_right_all_the_same(session):
    pixels = images(6)[::2, :, ::-1]
    answers = session.run({GRAPH_INPUT: pixels}, ["patch_tokens"])
    np.testing.assert_array_equal(answers["patch_tokens"], reference(pixels)["patch_tokens"])


def test_pixels_of_another_type_are_refused_and_not_rounded(session):
    with pytest.raises(TypeError, match="Cannot cast"):
        session.run({GRAPH_INPUT: images(1).astype(np.float32)}, ["embedding"])


def test_it_says_which_library_runs(session):
    assert session.providers == ["TensorRT 10.16.1.11"]
    assert session.largest == 32


def test_a_failed_execution_is_an_error_with_tensorrts_reason_and_the_next_batch_runs(gpu, session):
    gpu.trt.refuse_run = True
    with pytest.raises(RuntimeError, match="failed on a batch of 2: launch failed"):
        session.run({GRAPH_INPUT: images(2)}, ["embedding"])
    gpu.trt.refuse_run = False
    session.run({GRAPH_INPUT: images(2)}, ["embedding"])


def test_an_engine_that_tensorrt_refuses_stops_with_its_reason(gpu, tiny_bundle):
    gpu.trt.refuse_plan = True
    with pytest.raises(StartupError, match="refuses the engine: the engine was built by another version"):
        TensorRtSession(gpu.trt, Cuda(), plan(), tiny_bundle.manifest)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"layers": [[-1, 3, DIM], "FLOAT"]}, "engine's layers is"),
        ({"embedding": [[-1, DIM], "HALF"]}, "engine's embedding is"),
        ({"pixels": [[-1, SIDE, SIDE, 3], "FLOAT"]}, "engine's pixels is"),
        ({"layer_tokens": None}, "the engine has the tensors"),
        ({"more": [[-1, 1], "FLOAT"]}, "the engine has the tensors"),
    ],
)
def test_an_engine_of_another_model_is_refused_before_memory_is_taken(gpu, tiny_bundle, change, said):
    with pytest.raises(StartupError, match=said):
        TensorRtSession(gpu.trt, Cuda(), plan(**change), tiny_bundle.manifest)
    assert not gpu.driver.device


def test_a_gpu_without_room_is_an_error_of_its_own(gpu, tiny_bundle):
    gpu.driver.memory = 1000
    with pytest.raises(CudaError, match="OUT_OF_MEMORY"):
        TensorRtSession(gpu.trt, Cuda(), plan(), tiny_bundle.manifest)
