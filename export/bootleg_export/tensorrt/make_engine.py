"""From a bundle to a checked engine in the cache of this machine. Called by ``bootleg engine``.

An engine that fails the bundle's golden check is never kept, whether it was built now or found.
"""

from __future__ import annotations

import hashlib
import logging
import time
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, NamedTuple

from bootleg_bundle.engine_cache import (
    EngineRecord,
    load_engine,
    prepare_cache,
    remove_engine,
    store_engine,
    write_whole,
)
from bootleg_bundle.engine_key import EngineKey, engine_key
from bootleg_bundle.errors import EngineBuildError, EngineFileError
from bootleg_export.tensorrt.build import prepare, use_timings
from bootleg_service.engine import Engine, choose_precision
from bootleg_service.errors import StartupError
from bootleg_service.masks.heads import with_heads
from bootleg_service.tensorrt.cuda import Cuda, CudaError
from bootleg_service.tensorrt.library import import_tensorrt, make_logger
from bootleg_service.tensorrt.session import TensorRtSession

if TYPE_CHECKING:
    from pathlib import Path

    from bootleg_bundle import Bundle

log = logging.getLogger("bootleg.tensorrt")
ASKED = "bootleg engine"


class Made(NamedTuple):
    """An engine in the cache.

    Attributes:
        built: false when it was there already.
    """

    path: Path
    record: EngineRecord
    built: bool


def make_engine(bundle: Bundle, cache: Path, *, precision: str, batches: tuple[int, ...], ordinal: int) -> Made:
    """Build a bundle's engine on a GPU, unless a good one is there.

    Args:
        bundle: verified.
        cache: the directory of engines.
        precision: of the graph, or ``auto``.
        batches: the batch buckets, ascending.
        ordinal: of the GPU.

    Raises:
        StartupError: no driver, no GPU, no TensorRT, or no such precision.
        EngineBuildError: TensorRT cannot parse or build the graph, or the engine fails the golden check.
        EngineFileError: others may write to the cache.
    """
    precision = choose_precision(bundle, "tensorrt", precision)
    trt = import_tensorrt(ASKED)
    prepare_cache(cache)
    cuda = None
    try:
        cuda = Cuda(ordinal)
        key = engine_key(
            bundle,
            precision,
            gpu=cuda.name,
            compute_capability=cuda.compute_capability,
            tensorrt=str(trt.__version__),
            batches=batches,
        )
        return _good_one(trt, cuda, bundle, cache, key) or _build(trt, cuda, bundle, cache, key)
    except CudaError as error:
        raise StartupError(f"{ASKED}: {error}") from error
    finally:
        if cuda is not None:
            cuda.close()


def _good_one(trt: Any, cuda: Cuda, bundle: Bundle, cache: Path, key: EngineKey) -> Made | None:
    """The engine that is in the cache, if it still passes; one that does not is deleted."""
    try:
        found = load_engine(cache, key)
        if found is None:
            return None
        plan, record = found
        check_engine(trt, cuda, bundle, key, plan)
    except (EngineFileError, EngineBuildError) as error:
        log.warning("%s; it is deleted and built again", error.message)
        remove_engine(cache, key)
        return None
    return Made(cache / f"{key.stem}.engine", record, built=False)


def _build(trt: Any, cuda: Cuda, bundle: Bundle, cache: Path, key: EngineKey) -> Made:
    spec, timings = bundle.manifest.preprocess, cache / f"timings-{key.machine}"
    build = prepare(trt, make_logger(trt), bundle.graph(key.precision), (spec.height, spec.width, 3), key.batches)
    use_timings(build, timings.read_bytes() if timings.is_file() else b"")
    log.info("building for %s, TensorRT %s: seconds to minutes", key.gpu, key.tensorrt)
    begun = time.monotonic()
    plan = build.run()
    seconds = time.monotonic() - begun
    write_whole(timings, build.timings())
    record = EngineRecord(
        key=key,
        model=bundle.manifest.name,
        embedding_space=bundle.manifest.embedding_space,
        sha256=hashlib.sha256(plan).hexdigest(),
        bytes=len(plan),
        built=datetime.now(UTC).isoformat(timespec="seconds"),
        build_seconds=round(seconds, 1),
        golden=check_engine(trt, cuda, bundle, key, plan),
    )
    return Made(store_engine(cache, plan, record), record, built=True)


def check_engine(trt: Any, cuda: Cuda, bundle: Bundle, key: EngineKey, plan: bytes) -> dict[int, float]:
    """Run an engine on the bundle's golden images, in every bucket.

    Returns:
        By batch: the largest relative error of an output.

    Raises:
        EngineBuildError: an error is larger than the precision allows, or the engine cannot be run.
    """
    session = None
    try:
        session = TensorRtSession(trt, cuda, plan, bundle.manifest)
        engine = Engine(bundle, "tensorrt", key.precision, with_heads(session, bundle, threads=0))
        engine.warm_up(key.batches)
        return {batch: engine.check_golden(batch) for batch in key.batches}
    except (StartupError, CudaError) as error:
        raise EngineBuildError(f"the engine is not kept: {error}") from error
    finally:
        if session is not None:
            session.close()
