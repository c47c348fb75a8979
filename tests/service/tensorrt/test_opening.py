"""``device = tensorrt``, and what ``auto`` makes of it."""

import hashlib

import numpy as np
import pytest

from bootleg_bundle.engine_cache import EngineRecord, store_engine
from bootleg_bundle.engine_key import engine_key
from bootleg_bundle.manifest import GRAPH_OUTPUTS
from bootleg_service.engine import open_engine
from bootleg_service.errors import StartupError
from bootleg_service.settings import EngineSettings
from tests.bundles import SIDE, reference
from tests.fake_cuda import FakeDriver

from .test_session import plan


@pytest.fixture
def settings(tmp_path):
    return EngineSettings(device="tensorrt", threads=1, engine_cache=tmp_path / "engines")


@pytest.fixture
def without_provider(monkeypatch):
    monkeypatch.setattr("onnxruntime.get_available_providers", lambda: ["CPUExecutionProvider"])


def put_engine(bundle, settings, **changes):
    fields = {"gpu": "NVIDIA H200", "compute_capability": "9.0", "tensorrt": "10.16.1.11", "batches": (1, 8, 32)}
    key = engine_key(bundle, "fp32", **{**fields, **changes})
    content = plan(key.batches)
    record = EngineRecord(
        key=key,
        model="tiny",
        embedding_space=bundle.manifest.embedding_space,
        sha256=hashlib.sha256(content).hexdigest(),
        bytes=len(content),
        built="2026-11-23T12:00:00+00:00",
        build_seconds=1,
        golden={},
    )
    return store_engine(settings.engine_cache, content, record)


def warnings(caplog):
    return [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]


@pytest.mark.parametrize("device", ["tensorrt", "auto"])
def test_an_engine_in_the_cache_is_run_and_proved_by_the_golden_images(gpu, tiny_bundle, settings, device, caplog):
    put_engine(tiny_bundle, settings)
    engine = open_engine(tiny_bundle, settings.model_copy(update={"device": device}))
    assert (engine.device, engine.precision, engine.providers) == ("tensorrt", "fp32", ["TensorRT 10.16.1.11"])
    engine.warm_up([1, 8])
    assert engine.check_golden() < 1e-6
    pixels = np.random.default_rng(0).integers(0, 256, (3, SIDE, SIDE, 3), np.uint8)
    np.testing.assert_array_equal(engine.run(pixels, GRAPH_OUTPUTS)["layers"], reference(pixels)["layers"])
    assert warnings(caplog) == []


@pytest.mark.parametrize(
    "other", [{"gpu": "NVIDIA L4"}, {"compute_capability": "8.9"}, {"tensorrt": "10.16.1.12"}, {"batches": (1, 16)}]
)
def test_an_engine_of_another_gpu_version_or_buckets_is_not_run(gpu, tiny_bundle, settings, other, without_provider):
    put_engine(tiny_bundle, settings, **other)
    with pytest.raises(StartupError) as caught:
        open_engine(tiny_bundle, settings)
    assert "build it with: bootleg engine BUNDLE --precision fp32 --batches 1,8,32" in caught.value.message
    assert "has no TensorRT provider" in caught.value.message
    assert gpu.driver.is_clean()


def test_a_damaged_engine_is_not_run(gpu, tiny_bundle, settings, without_provider):
    path = put_engine(tiny_bundle, settings)
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(StartupError, match="changed or damaged"):
        open_engine(tiny_bundle, settings)


def test_tensorrt_asked_for_on_a_machine_without_a_driver_stops_the_start(tiny_bundle, settings, monkeypatch):
    monkeypatch.setattr("bootleg_service.tensorrt.driver.driver_loads", lambda: False)
    with pytest.raises(StartupError, match=r"device = 'tensorrt': no CUDA driver"):
        open_engine(tiny_bundle, settings)


def test_a_driver_that_shows_no_gpu_stops_the_start(tiny_bundle, settings, monkeypatch):
    FakeDriver(gpus=0).install(monkeypatch)
    with pytest.raises(StartupError, match=r"device = 'tensorrt': GPU 0: this machine shows 0"):
        open_engine(tiny_bundle, settings)


def test_auto_goes_from_tensorrt_to_cuda_to_the_cpu_with_one_warning_each(
    gpu, tiny_bundle, settings, without_provider, caplog
):
    engine = open_engine(tiny_bundle, settings.model_copy(update={"device": "auto"}))
    assert engine.device == "cpu"
    first, second = warnings(caplog)
    assert first.startswith("device auto: tensorrt cannot be used (")
    assert "bootleg engine BUNDLE" in first
    assert second.startswith("device auto: cuda cannot be used (")
    assert second.endswith("falling back to the CPU")


def test_auto_never_lets_onnx_runtime_build_an_engine_at_the_start(gpu, tiny_bundle, settings, monkeypatch):
    monkeypatch.setattr(
        "bootleg_service.tensorrt.opening.open_provider", lambda *_, **__: pytest.fail("built without being asked")
    )
    assert open_engine(tiny_bundle, settings.model_copy(update={"device": "auto"})).device == "cpu"


def test_a_failing_engine_gives_the_gpu_back(gpu, tiny_bundle, settings, without_provider):
    put_engine(tiny_bundle, settings)
    gpu.driver.memory = 1000
    with pytest.raises(StartupError, match="OUT_OF_MEMORY"):
        open_engine(tiny_bundle, settings)
    assert gpu.driver.is_clean()
