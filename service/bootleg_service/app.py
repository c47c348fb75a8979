"""Wiring: settings and a bundle become an application. No logic of its own."""

from __future__ import annotations

import asyncio
import contextlib
import importlib.metadata
import logging
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from fastapi import Depends, FastAPI
from fastapi_offline import FastAPIOffline

from bootleg_service import documents, routes, routes_meta, routes_segment
from bootleg_service.access.bearer import authorised
from bootleg_service.access.keys import KeyRing, read_keys
from bootleg_service.batching.batcher import Batcher
from bootleg_service.batching.ceiling import batch_sizes
from bootleg_service.cache import build_cache
from bootleg_service.canary import Canary
from bootleg_service.decode_pool import DecodePool
from bootleg_service.dialects import cohere, open_inference, openai, tei, weaviate
from bootleg_service.edge import Edge, install_error_handlers
from bootleg_service.engine import Engine, open_engine
from bootleg_service.masks.heads import row_shapes
from bootleg_service.masks.pool import MaskPool
from bootleg_service.metrics import Metrics
from bootleg_service.page.files import page_routes
from bootleg_service.pipeline import Pipeline
from bootleg_service.state import Service
from bootleg_service.telemetry.endings import Endings
from bootleg_service.telemetry.machine import publish_build, publish_memory

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from fastapi.telemetry import TelemetryConfig

    from bootleg_bundle import Bundle
    from bootleg_service.cache import Cache
    from bootleg_service.settings import EngineSettings, Settings
    from bootleg_service.telemetry.endings import Tracing

log = logging.getLogger("bootleg")

NO_OWN_TELEMETRY: Final[TelemetryConfig] = {
    "tracing": False,
    "metrics": False,
    "logs": False,
    "operation_spans": False,
    "auto_configure": False,
}
"""FastAPI's own would read the environment, and log the input of requests that do not fit; ours knows of batches."""


def create_app(
    bundle: Bundle,
    settings: Settings,
    *,
    engine: Engine | None = None,
    open_model: Callable[[Bundle, EngineSettings], Any] = open_engine,
    cache: Cache | None = None,
    on_fatal: Callable[[BaseException], None] | None = None,
    tracing: Tracing | None = None,
) -> FastAPI:
    """Build the application of one bundle.

    Args:
        bundle: verified.
        settings: composed.
        engine: from :func:`load_model`; loaded at start when None.
        open_model: loads the engine; tests pass one without a model.
        cache: overrides the configured one.
        on_fatal: ends the process, after an error of the device that nothing but a new process recovers from.
        tracing: makes a trace of each request.

    Raises:
        StartupError: the file of API keys cannot be used.
    """
    metrics = Metrics()
    publish_build(metrics)
    store = cache or build_cache(settings.cache, metrics)
    # FastAPIOffline's pages load nothing from elsewhere.
    make = FastAPIOffline if settings.access.documents else partial(FastAPI, openapi_url=None)
    app = make(
        redoc_url=None,
        telemetry=NO_OWN_TELEMETRY,
        dependencies=[Depends(authorised)],
        title="Bootleg Vision",
        version=importlib.metadata.version("bootleg-vision"),
        summary="Image embeddings and patch tokens from a self-supervised vision transformer",
        lifespan=_lifespan(
            bundle,
            settings,
            metrics,
            lambda: engine or load_model(bundle, settings, open_model),
            store,
            on_fatal=on_fatal,
            tracing=tracing,
        ),
    )
    app.state.keys = KeyRing(read_keys(settings.access.keys_file)) if settings.access.keys_file else None
    for module in (routes, routes_segment, openai, tei, cohere, weaviate, open_inference, routes_meta):
        app.include_router(module.router)
    if settings.access.show_page:
        app.router.routes.extend(page_routes())
    documents.install(app)
    install_error_handlers(app)
    app.add_middleware(Edge, endings=Endings(metrics, tracing), space=bundle.manifest.embedding_space)
    return app


def _lifespan(
    bundle: Bundle,
    settings: Settings,
    metrics: Metrics,
    load: Callable[[], Any],
    store: Cache,
    *,
    on_fatal: Callable[[BaseException], None] | None,
    tracing: Tracing | None,
) -> Any:
    @contextlib.asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        engine: Engine = await asyncio.to_thread(load)
        manifest = bundle.manifest
        decode = DecodePool(
            manifest.preprocess,
            settings.limits.image,
            metrics,
            threads=settings.decode_threads,
            max_waiting=settings.max_decodes,
            max_seconds=settings.limits.request_seconds / 2,
        )
        batcher = Batcher(
            engine.run,
            settings.batch,
            metrics,
            arriving=lambda: decode.arriving,
            row_shapes=row_shapes(manifest),
            sizes=batch_sizes(engine.device, settings.batch.max_batch),
            on_fatal=on_fatal,
            model=manifest.name,
        )
        of_model = metrics.of_model(manifest.name)
        canary = Canary(engine.check_golden, batcher, of_model, every=settings.engine.canary_seconds)
        decode.when_idle = batcher.wake
        pipeline = Pipeline(bundle, store, decode, batcher, metrics, seconds=settings.limits.request_seconds)
        masks = MaskPool(settings.masks, metrics, max_seconds=settings.limits.request_seconds / 2)
        metrics.info.labels(manifest.name, manifest.embedding_space, engine.device, engine.precision).set(1)
        device_memory = publish_memory(metrics, engine.device)
        service = app.state.service = Service(bundle, settings, metrics, engine, batcher, pipeline, masks, canary)
        metrics.ready.set_function(lambda: routes_meta.is_ready(service))
        batcher.start()
        watch = asyncio.create_task(canary.watch(), name="canary")
        service.ready = True
        log.info("serving %s on %s, space %s", manifest.name, engine.device, manifest.embedding_space)
        try:
            yield
        finally:
            service.ready = False
            watch.cancel()
            await pipeline.close()
            await batcher.close()
            decode.close()
            masks.close()
            await store.close()
            if device_memory is not None:
                device_memory.close()
            if tracing is not None:
                await asyncio.to_thread(tracing.close)

    return lifespan


def load_model(
    bundle: Bundle, settings: Settings, open_model: Callable[[Bundle, EngineSettings], Any] = open_engine
) -> Any:
    """Open the engine, warm it up, and prove it with the bundle's golden images.

    Raises:
        StartupError: it cannot be had as configured, or answers wrongly.
    """
    engine = open_model(bundle, settings.engine)
    engine.warm_up(batch_sizes(engine.device, settings.batch.max_batch) or [1, settings.batch.max_batch])
    engine.check_golden()
    return engine
