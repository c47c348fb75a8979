"""ONNX Runtime's TensorRT provider: its options, the TensorRT it was linked with, and no silent fallback."""

import ctypes
import os
from types import SimpleNamespace
from typing import ClassVar

import pytest

from bootleg_bundle.engine_key import engine_key
from bootleg_service import onnx_session
from bootleg_service.engine import open_engine
from bootleg_service.errors import StartupError
from bootleg_service.settings import EngineSettings
from bootleg_service.tensorrt import provider
from bootleg_service.tensorrt.provider import linked_version, provider_options, wanted_library


@pytest.fixture
def settings(tmp_path):
    return EngineSettings(device="tensorrt", threads=1, engine_cache=tmp_path / "engines")


class Session:
    """A session that ONNX Runtime made; ``providers`` and ``engines`` say what it made of what it was asked."""

    providers = tuple(onnx_session.PROVIDERS[device] for device in ("tensorrt", "cuda", "cpu"))
    engines = 1
    asked: ClassVar = []

    def __init__(self, graph, options, providers):
        self.asked.append(providers)
        for name, settings in (entry for entry in providers if isinstance(entry, tuple)):
            if name == onnx_session.PROVIDERS["tensorrt"] and self.engines:
                folder = settings["trt_engine_cache_path"]
                with open(f"{folder}/{settings['trt_engine_cache_prefix']}_0.engine", "wb"):  # noqa: PTH123
                    pass

    def get_providers(self):
        return list(self.providers)


@pytest.fixture
def runtime(monkeypatch):
    """An ONNX Runtime with all three providers, and TensorRT 10.16.1 to be loaded."""
    monkeypatch.setattr("onnxruntime.get_available_providers", lambda: list(onnx_session.PROVIDERS.values()))
    monkeypatch.setattr("onnxruntime.InferenceSession", Session)
    monkeypatch.setattr(Session, "asked", [])
    monkeypatch.setattr(provider, "wanted_library", lambda _: "libnvinfer.so.10")
    monkeypatch.setenv("NVIDIA_TF32_OVERRIDE", "1")
    loaded, real = {"libnvinfer.so.10": SimpleNamespace(getInferLibVersion=lambda: 101_601)}, ctypes.CDLL
    monkeypatch.setattr(ctypes, "CDLL", lambda name, *a, **k: loaded.get(name) or real(name, *a, **k))
    return SimpleNamespace(libraries=loaded)


def test_without_an_engine_of_ours_the_provider_is_taken_with_caches_named_as_ours(
    gpu, runtime, tiny_bundle, settings, caplog
):
    engine = open_engine(tiny_bundle, settings)
    assert (engine.device, engine.providers[0]) == ("tensorrt", "TensorrtExecutionProvider")
    ((name, options), (cuda, _), cpu) = Session.asked[0]
    assert (name, cuda, cpu) == tuple(onnx_session.PROVIDERS[device] for device in ("tensorrt", "cuda", "cpu"))
    (folder,) = settings.engine_cache.iterdir()
    assert folder.name.startswith(f"onnxruntime-{tiny_bundle.sha256[:12]}-fp32-nvidia-h200-sm90-trt10.16.1-")
    assert options["trt_engine_cache_path"] == options["trt_timing_cache_path"] == str(folder)
    assert "bootleg engine BUNDLE" in caplog.text
    assert "may build for minutes" in caplog.text


def test_a_provider_that_quietly_became_another_is_caught(gpu, runtime, tiny_bundle, settings, monkeypatch):
    monkeypatch.setattr(Session, "providers", Session.providers[1:])
    with pytest.raises(StartupError, match="loaded CUDAExecutionProvider instead of TensorrtExecutionProvider"):
        open_engine(tiny_bundle, settings)


def test_a_provider_that_was_given_no_operator_is_caught(gpu, runtime, tiny_bundle, settings, monkeypatch):
    monkeypatch.setattr(Session, "engines", 0)
    with pytest.raises(StartupError, match="gave TensorRT no part of the graph"):
        open_engine(tiny_bundle, settings)


def test_another_major_version_of_tensorrt_does_not_do_and_it_is_said(gpu, runtime, tiny_bundle, settings):
    runtime.libraries.clear()  # TensorRT 11 has libnvinfer.so.11
    with pytest.raises(
        StartupError, match=r"needs libnvinfer\.so\.10, .*another major version .* does not do; install"
    ):
        open_engine(tiny_bundle, settings)


def test_the_linked_version_is_that_of_the_library_that_was_loaded(runtime):
    assert linked_version() == "10.16.1"
    runtime.libraries["libnvinfer.so.10"] = SimpleNamespace(getInferLibVersion=lambda: 100_902)
    assert linked_version() == "10.9.2"


def test_the_wanted_library_is_read_from_the_providers_own_file(tmp_path):
    file = tmp_path / provider.LIBRARY
    file.write_bytes(b"\x7fELF..\0libdl.so.2\0libnvinfer_plugin.so.10\0libnvinfer.so.10\0libm.so.6\0")
    assert wanted_library(file) == "libnvinfer.so.10"


@pytest.mark.parametrize("content", [None, b"\x7fELF\0libm.so.6\0"])
def test_a_runtime_without_the_providers_file_says_so(tmp_path, content):
    file = tmp_path / provider.LIBRARY
    if content:
        file.write_bytes(content)
    with pytest.raises(StartupError, match=r"TensorRT provider .* is not installed"):
        wanted_library(file)


@pytest.mark.parametrize(
    ("precision", "flag"),
    [("fp32", None), ("fp16", "trt_fp16_enable"), ("bf16", "trt_bf16_enable")],
)
def test_kernels_of_a_lower_precision_are_allowed_for_its_own_graph_only(tiny_bundle, tmp_path, precision, flag):
    key = engine_key(tiny_bundle, precision, gpu="g", compute_capability="9.0", tensorrt="10.16.1", batches=(1, 8, 32))
    options = provider_options(tiny_bundle, key, tmp_path)
    lower = {name for name in options if name in {f"trt_{low}_enable" for low in ("fp16", "bf16", "int8")}}
    assert lower == ({flag} if flag else set())
    assert options["trt_profile_min_shapes"] == "pixels:1x8x8x3"
    assert options["trt_profile_opt_shapes"] == "pixels:8x8x8x3"
    assert options["trt_profile_max_shapes"] == "pixels:32x8x8x3"


def test_tf32_is_off_for_float32(gpu, runtime, tiny_bundle, settings):
    open_engine(tiny_bundle, settings)
    assert os.environ["NVIDIA_TF32_OVERRIDE"] == "0"
    assert Session.asked[0][1][1]["use_tf32"] == "0"
