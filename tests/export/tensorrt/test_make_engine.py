"""``bootleg engine`` from front to back, against a stand-in for TensorRT and for the driver."""

import json

import numpy as np
import pytest
from click.testing import CliRunner

from bootleg_bundle.errors import EngineBuildError, EngineFileError
from bootleg_cli import main
from bootleg_export.tensorrt.make_engine import make_engine
from bootleg_service.engine import open_engine
from bootleg_service.errors import StartupError
from bootleg_service.settings import EngineSettings
from tests.bundles import reference


@pytest.fixture
def cache(tmp_path):
    return tmp_path / "engines"


def make(bundle, cache, **changes):
    return make_engine(bundle, cache, **{"precision": "auto", "batches": (1, 8, 32), "ordinal": 0, **changes})


def wrong(pixels):
    return {name: array * 1.01 for name, array in reference(pixels).items()}


def test_what_is_built_is_what_the_service_runs(gpu, tiny_bundle, cache):
    made = make(tiny_bundle, cache)
    assert made.built
    assert made.record.key.gpu == "NVIDIA H200"
    settings = EngineSettings(device="tensorrt", engine_cache=cache)
    engine = open_engine(tiny_bundle, settings)
    assert engine.providers == ["TensorRT 10.16.1.11"]
    assert engine.check_golden() < 1e-6


def test_the_record_says_what_the_engine_was_built_from_and_how_it_did(gpu, tiny_bundle, cache):
    made = make(tiny_bundle, cache, batches=(4, 16))
    record = json.loads(made.path.with_suffix(".json").read_text())
    assert record["key"]["bundle"] == tiny_bundle.sha256
    assert record["key"]["batches"] == [4, 16]
    assert record["embedding_space"] == tiny_bundle.manifest.embedding_space
    assert record["bytes"] == made.path.stat().st_size
    assert set(record["golden"]) == {"4", "16"}


def test_every_bucket_is_a_profile_of_its_own_and_is_proved(gpu, tiny_bundle, cache):
    made = make(tiny_bundle, cache)
    plan = json.loads(made.path.read_bytes())
    assert [[shape[0] for shape in profile] for profile in plan["profiles"]] == [[1, 1, 1], [2, 8, 8], [9, 32, 32]]
    assert plan["flags"] == []  # TF32 is a default; refit is not
    assert {(0, 1), (1, 8), (2, 32)} <= set(gpu.trt.ran)


def test_a_good_engine_that_is_there_is_checked_and_not_built_again(gpu, tiny_bundle, cache):
    make(tiny_bundle, cache)
    gpu.trt.ran.clear()
    assert not make(tiny_bundle, cache).built
    assert gpu.trt.builds == 1
    assert gpu.trt.ran


def test_an_engine_that_fails_the_golden_check_is_not_kept(gpu, tiny_bundle, cache):
    gpu.trt.compute = wrong
    with pytest.raises(EngineBuildError, match=r"not kept: the model's golden check failed on tensorrt: .*1\.0e-02"):
        make(tiny_bundle, cache)
    assert list(cache.glob("*.engine")) == list(cache.glob("*.json")) == []
    assert gpu.driver.is_clean()


def test_a_bucket_that_alone_computes_wrongly_is_found(gpu, tiny_bundle, cache):
    gpu.trt.compute = lambda pixels: wrong(pixels) if len(pixels) == 32 else reference(pixels)
    with pytest.raises(EngineBuildError, match="golden check failed"):
        make(tiny_bundle, cache)


def test_an_engine_whose_answers_are_not_finite_is_not_kept(gpu, tiny_bundle, cache):
    gpu.trt.compute = lambda pixels: {name: array * np.nan for name, array in reference(pixels).items()}
    with pytest.raises(EngineBuildError, match="golden check failed"):
        make(tiny_bundle, cache)


def test_an_engine_that_no_longer_passes_is_deleted_and_built_again(gpu, tiny_bundle, cache, caplog):
    made = make(tiny_bundle, cache)
    made.path.write_bytes(b"damaged")
    assert make(tiny_bundle, cache).built
    assert "deleted and built again" in caplog.text
    gpu.trt.compute = wrong
    with pytest.raises(EngineBuildError):
        make(tiny_bundle, cache)
    assert list(cache.glob("*.engine")) == []


def test_timings_are_kept_for_the_next_build_and_strange_ones_are_left_aside(gpu, tiny_bundle, cache):
    make(tiny_bundle, cache)
    make(tiny_bundle, cache, batches=(1,))
    (timings,) = cache.glob("timings-nvidia-h200-sm90-trt10.16.1.11")
    timings.write_bytes(b"of another machine")
    make(tiny_bundle, cache, batches=(2,))
    assert gpu.trt.timings == [b"", b"timings", b""]


def test_a_graph_that_cannot_be_built_is_one_line_with_the_builders_reason(gpu, tiny_bundle, cache):
    gpu.trt.refuse_build = True
    with pytest.raises(EngineBuildError, match=r"cannot build encoder\.fp32\.onnx: no kernel for node 7$"):
        make(tiny_bundle, cache)


def test_the_gpu_is_given_back(gpu, tiny_bundle, cache):
    make(tiny_bundle, cache)
    assert gpu.driver.is_clean()


def test_a_gpu_a_precision_and_a_cache_that_cannot_be_had_are_refused(gpu, tiny_bundle, cache):
    with pytest.raises(StartupError, match="bootleg engine: GPU 3: this machine shows 1"):
        make(tiny_bundle, cache, ordinal=3)
    with pytest.raises(StartupError, match="precision = 'fp16'"):
        make(tiny_bundle, cache, precision="fp16")
    cache.chmod(0o777)
    with pytest.raises(EngineFileError, match="others may write"):
        make(tiny_bundle, cache)
    assert gpu.trt.builds == 0


def run(*arguments):
    return CliRunner().invoke(main, ["engine", *map(str, arguments)])


def test_the_command_says_where_the_engine_is_and_how_far_from_the_golden_outputs(gpu, tiny_bundle, cache):
    done = run(tiny_bundle.path, "--cache", cache, "--batches", "1,4")
    assert done.exit_code == 0, done.output
    (engine,) = cache.glob("*.engine")
    assert f"{engine}: built in " in done.output
    assert "fp32 on NVIDIA H200 (sm 9.0), TensorRT 10.16.1.11" in done.output
    assert done.output.count("golden relative error") == 2
    assert "was there already" in run(tiny_bundle.path, "--cache", cache, "--batches", "1,4").output


def test_batches_that_are_none_are_refused_before_anything_is_built(gpu, tiny_bundle, cache):
    done = run(tiny_bundle.path, "--cache", cache, "--batches", "8,1")
    assert done.exit_code == 2
    assert "batches: 8,1: give sizes in ascending order" in done.output
    assert not cache.exists()


def test_a_machine_without_a_driver_is_one_line_and_exit_2(tiny_bundle, cache, monkeypatch):
    monkeypatch.setattr("bootleg_service.tensorrt.driver.driver_loads", lambda: False)
    done = run(tiny_bundle.path, "--cache", cache)
    assert done.exit_code == 2
    assert done.output.splitlines() == [
        "Error: bootleg engine: no CUDA driver (libcuda.so.1) can be loaded on this machine"
    ]
