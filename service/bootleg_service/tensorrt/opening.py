"""``device = tensorrt``: an engine that ``bootleg engine`` built, or else ONNX Runtime's TensorRT provider.

Called by the engine's opening alone. Never builds for minutes unless that was asked for by name.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from bootleg_bundle.engine_cache import load_engine
from bootleg_bundle.engine_key import engine_key
from bootleg_bundle.errors import EngineFileError
from bootleg_service.errors import StartupError
from bootleg_service.tensorrt.cuda import Cuda, CudaError
from bootleg_service.tensorrt.driver import check_driver
from bootleg_service.tensorrt.library import import_tensorrt
from bootleg_service.tensorrt.provider import open_provider
from bootleg_service.tensorrt.session import TensorRtSession

if TYPE_CHECKING:
    from bootleg_bundle import Bundle
    from bootleg_service.onnx_session import OnnxSession
    from bootleg_service.settings import EngineSettings

log = logging.getLogger("bootleg.tensorrt")
ASKED = "device = 'tensorrt'"


def open_tensorrt(
    bundle: Bundle, precision: str, settings: EngineSettings, *, build: bool
) -> TensorRtSession | OnnxSession:
    """Open a graph on TensorRT.

    Args:
        bundle: verified.
        precision: of the graph.
        settings: where the cache is, and the batch buckets of its engines.
        build: whether ONNX Runtime's provider may be taken, which builds an engine if it has none.

    Raises:
        StartupError: neither can be had; says why of each.
    """
    check_driver(ASKED)
    try:
        cuda = Cuda()
    except CudaError as error:
        raise StartupError(f"{ASKED}: {error}") from error
    try:
        return _open_engine(bundle, precision, settings, cuda)
    except (StartupError, EngineFileError, CudaError) as error:
        reason = str(error)
    cuda.close()
    if not build:
        raise StartupError(reason)
    log.warning("%s; taking ONNX Runtime's TensorRT provider, which may build for minutes", reason)
    try:
        return open_provider(bundle, precision, settings, gpu=cuda.name, compute_capability=cuda.compute_capability)
    except (StartupError, EngineFileError) as error:
        raise StartupError(f"{reason}; and {error.message}") from error


def _open_engine(bundle: Bundle, precision: str, settings: EngineSettings, cuda: Cuda) -> TensorRtSession:
    trt = import_tensorrt(ASKED)
    key = engine_key(
        bundle,
        precision,
        gpu=cuda.name,
        compute_capability=cuda.compute_capability,
        tensorrt=str(trt.__version__),
        batches=settings.tensorrt_batches,
    )
    found = load_engine(settings.engine_cache, key)
    if found is None:
        batches = ",".join(map(str, key.batches))
        raise StartupError(
            f"{ASKED}: no engine of this bundle, GPU and TensorRT {key.tensorrt} is in the cache; "
            f"build it with: bootleg engine BUNDLE --precision {precision} --batches {batches}"
        )
    return TensorRtSession(trt, cuda, found[0], bundle.manifest, release=cuda.close)
