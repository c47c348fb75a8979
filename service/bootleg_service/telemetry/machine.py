"""What runs, and how much memory the GPU has left: read from the packages once, from the driver at each scrape."""

from __future__ import annotations

import importlib.metadata
import logging
import math
import platform
from typing import TYPE_CHECKING, Any, Final

from bootleg_service.onnx_session import RUNTIMES
from bootleg_service.tensorrt.cuda import Cuda, CudaError

if TYPE_CHECKING:
    from collections.abc import Callable

    from bootleg_service.metrics import Metrics

log = logging.getLogger("bootleg")

ON_GPU: Final = frozenset({"cuda", "tensorrt"})


def publish_build(metrics: Metrics) -> None:
    """Say which versions run."""
    metrics.build.labels(
        importlib.metadata.version("bootleg-vision"), platform.python_version(), _runtime_version()
    ).set(1)


def publish_memory(metrics: Metrics, device: str, open_gpu: Callable[[], Any] = Cuda) -> Any:
    """Let Prometheus read the memory of the GPU that ``device`` is on.

    Returns:
        What to close in the end; None on a CPU, or where the driver does not tell.
    """
    if device not in ON_GPU:
        return None
    try:
        gpu = open_gpu()
    except (CudaError, OSError) as error:
        log.warning("the GPU's memory is not in the metrics: %s", error)
        return None
    metrics.device_memory.labels("free").set_function(lambda: _bytes(gpu)[0])
    metrics.device_memory.labels("used").set_function(lambda: _bytes(gpu)[1])
    return gpu


def _bytes(gpu: Any) -> tuple[float, float]:
    """Free and used; not a number when the device is gone, which must not take the other metrics along."""
    try:
        free, total = gpu.memory()
    except CudaError:
        return math.nan, math.nan
    return free, total - free


def _runtime_version() -> str:
    for name in RUNTIMES:
        try:
            return importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return "none"
