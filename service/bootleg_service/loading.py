"""From a bundle to a served model: its engine opened and proved, and the machinery around it running.

The registry of models calls it, at the start and for every reload.
"""

from __future__ import annotations

import asyncio
import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from bootleg_service.batching.batcher import Batcher
from bootleg_service.batching.ceiling import batch_sizes
from bootleg_service.canary import Canary
from bootleg_service.engine import Engine, open_engine
from bootleg_service.masks.heads import row_shapes
from bootleg_service.model_decode import ModelDecode
from bootleg_service.pipeline import Pipeline
from bootleg_service.state import Service
from bootleg_service.watchdog import Watchdog

if TYPE_CHECKING:
    from collections.abc import Callable

    from bootleg_bundle import Bundle
    from bootleg_service.cache import Cache
    from bootleg_service.decode_pool import DecodePool
    from bootleg_service.masks.pool import MaskPool
    from bootleg_service.metrics import Metrics
    from bootleg_service.response_cache import ResponseCache
    from bootleg_service.settings import EngineSettings, Settings

log = logging.getLogger("bootleg")


@dataclass(frozen=True)
class Shared:
    """What the models of a process have in common."""

    settings: Settings
    metrics: Metrics
    cache: Cache
    decode: DecodePool
    masks: MaskPool
    responses: ResponseCache
    on_fatal: Callable[[BaseException], None] | None = None


def load_model(
    bundle: Bundle,
    settings: Settings,
    open_model: Callable[[Bundle, EngineSettings], Any] = open_engine,
    warming: Callable[[], None] = lambda: None,
) -> Any:
    """Open the engine, warm it up, and prove it with the bundle's golden images.

    The largest batch comes first: what memory it needs is taken in one piece, or found missing at once.

    Args:
        bundle: verified.
        settings: composed.
        open_model: opens the engine.
        warming: called when it is open.

    Raises:
        StartupError: it cannot be had as configured, or answers wrongly.
    """
    engine = open_model(bundle, settings.engine)
    warming()
    sizes = batch_sizes(engine.device, settings.batch.max_batch) or (1, settings.batch.max_batch)
    engine.warm_up(sizes[::-1])
    engine.check_golden()
    return engine


def start_service(bundle: Bundle, engine: Engine, shared: Shared) -> Service:
    """Begin serving a loaded model; call from the event loop."""
    settings, metrics, manifest = shared.settings, shared.metrics, bundle.manifest
    name = manifest.name
    decode = ModelDecode(shared.decode, manifest.preprocess)
    batcher = Batcher(
        engine.run,
        settings.batch,
        metrics,
        arriving=lambda: decode.arriving,
        row_shapes=row_shapes(manifest),
        sizes=batch_sizes(engine.device, settings.batch.max_batch),
        on_fatal=shared.on_fatal,
        model=name,
    )
    decode.feed(batcher)
    canary = Canary(
        engine.check_golden,
        batcher,
        metrics.of_model(name),
        every=settings.engine.canary_seconds,
        on_fatal=shared.on_fatal,
    )
    watchdog = Watchdog(batcher, metrics, model=name)
    pipeline = Pipeline(bundle, shared.cache, decode, batcher, metrics)
    metrics.describe(manifest, engine)
    batcher.start()
    watches = (
        asyncio.create_task(canary.watch(), name=f"canary of {name}"),
        asyncio.create_task(watchdog.watch(), name=f"watchdog of {name}"),
    )
    log.info("serving %s on %s, space %s", name, engine.device, manifest.embedding_space)
    return Service(
        bundle, settings, metrics, engine, batcher, pipeline, shared.masks, canary, shared.responses, watches
    )
