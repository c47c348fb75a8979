"""The second path: ONNX Runtime's TensorRT provider, which builds engines when the service starts.

Taken where no engine of ours is in the cache. Its engines and timings lie in the same cache, in a
directory named as ours are. Not run on hardware yet.
"""

from __future__ import annotations

import contextlib
import ctypes
import importlib
import os
import re
from pathlib import Path
from typing import TYPE_CHECKING, Final

import onnxruntime as ort

from bootleg_bundle.engine_cache import prepare_cache
from bootleg_bundle.engine_key import EngineKey, engine_key
from bootleg_bundle.manifest import GRAPH_INPUT
from bootleg_service.errors import StartupError
from bootleg_service.onnx_session import PROVIDERS, OnnxSession

if TYPE_CHECKING:
    from bootleg_bundle import Bundle
    from bootleg_service.settings import EngineSettings

LIBRARY: Final = "libonnxruntime_providers_tensorrt.so"
PRECISION_OPTIONS: Final = {
    "fp32": {},
    "fp16": {"trt_fp16_enable": "1"},
    "bf16": {"trt_bf16_enable": "1"},
}
"""Kernels of a lower precision only where the graph itself has it: no graph is rounded behind its parity check."""


def open_provider(
    bundle: Bundle, precision: str, settings: EngineSettings, *, gpu: str, compute_capability: str
) -> OnnxSession:
    """Open a graph on ONNX Runtime's TensorRT provider; the first time, this builds for minutes.

    Raises:
        StartupError: no such provider, not the TensorRT it was linked with, or TensorRT took no part of the graph.
    """
    key = engine_key(
        bundle,
        precision,
        gpu=gpu,
        compute_capability=compute_capability,
        tensorrt=linked_version(),
        batches=settings.tensorrt_batches,
        flags=("onnxruntime", ort.__version__),
    )
    folder = settings.engine_cache / f"onnxruntime-{key.stem}"
    prepare_cache(folder)
    if precision == "fp32":
        os.environ["NVIDIA_TF32_OVERRIDE"] = "0"  # the provider has no option for it; see BUILDER_FLAGS
    options = provider_options(bundle, key, folder)
    session = OnnxSession(
        bundle.graph(precision), "tensorrt", settings.threads, options, gpu_memory_bytes=settings.gpu_memory_bytes
    )
    if not any(folder.glob("*.engine")):  # the provider is loaded, but every operator went to CUDA or the CPU
        raise StartupError("device = 'tensorrt': ONNX Runtime gave TensorRT no part of the graph")
    return session


def provider_options(bundle: Bundle, key: EngineKey, folder: Path) -> dict[str, str]:
    """The provider's options: caches, and one profile, without which each new batch size would build again."""
    spec, batches = bundle.manifest.preprocess, key.batches
    sizes = {"min": 1, "opt": batches[len(batches) // 2], "max": batches[-1]}
    return {
        "trt_engine_cache_enable": "1",
        "trt_engine_cache_path": str(folder),
        "trt_engine_cache_prefix": key.precision,
        "trt_timing_cache_enable": "1",
        "trt_timing_cache_path": str(folder),
        **{
            f"trt_profile_{name}_shapes": f"{GRAPH_INPUT}:{size}x{spec.height}x{spec.width}x3"
            for name, size in sizes.items()
        },
        **PRECISION_OPTIONS[key.precision],
    }


def linked_version() -> str:
    """The version of the TensorRT that ONNX Runtime's provider was linked with, loaded and asked.

    Raises:
        StartupError: no such provider, or its TensorRT is not there; a newer major version does not do.
    """
    if PROVIDERS["tensorrt"] not in ort.get_available_providers():
        raise StartupError("the installed ONNX Runtime has no TensorRT provider")
    provider = Path(ort.__file__).parent / "capi" / LIBRARY
    wanted = wanted_library(provider)
    with contextlib.suppress(ImportError):  # without it the system's loader must find them
        importlib.import_module("tensorrt_libs")  # the wheel of the libraries loads them when it is imported
    try:
        version = int(ctypes.CDLL(wanted).getInferLibVersion())
    except OSError as error:
        raise StartupError(
            f"onnxruntime {ort.__version__} needs {wanted}, which cannot be loaded; another major version of TensorRT "
            "does not do; install it with: pip install 'bootleg-vision[tensorrt]'"
        ) from error
    return f"{version // 10_000}.{version // 100 % 100}.{version % 100}"  # as NvInferVersion.h packs it since 10.0


def wanted_library(provider: Path) -> str:
    """The name of the TensorRT library that the provider's file asks the loader for.

    Raises:
        StartupError: the file is not there or names none.
    """
    try:
        named = re.search(rb"\x00(libnvinfer\.so\.\d+)\x00", provider.read_bytes())
    except OSError:
        named = None
    if named is None:
        raise StartupError(f"ONNX Runtime's TensorRT provider ({provider.name}) is not installed")
    return named[1].decode()
