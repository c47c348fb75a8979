"""Wiring: settings and bundles become an application. No logic of its own."""

from __future__ import annotations

import asyncio
import contextlib
import importlib.metadata
import logging
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from fastapi import Depends, FastAPI
from fastapi_offline import FastAPIOffline
from starlette.middleware.cors import CORSMiddleware

from bootleg_bundle import Bundle
from bootleg_service import documents, routes, routes_admin, routes_meta, routes_segment
from bootleg_service.access.bearer import OPEN, authorised
from bootleg_service.access.cors import cors
from bootleg_service.access.keys import KeyRing, read_keys
from bootleg_service.admission import Admission
from bootleg_service.cache import build_cache
from bootleg_service.dialects import cohere, open_inference, openai, tei, weaviate
from bootleg_service.direct_routes import DirectRoutes
from bootleg_service.edge import Edge, install_error_handlers
from bootleg_service.engine import open_engine
from bootleg_service.held_bodies import HeldBodies
from bootleg_service.metrics import Metrics
from bootleg_service.models import Models
from bootleg_service.page.files import page_routes
from bootleg_service.telemetry.endings import Endings
from bootleg_service.telemetry.machine import publish_build

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Sequence

    from fastapi.telemetry import TelemetryConfig

    from bootleg_service.cache import Cache
    from bootleg_service.settings import EngineSettings, Settings
    from bootleg_service.telemetry.endings import Tracing

NO_OWN_TELEMETRY: Final[TelemetryConfig] = {
    "tracing": False,
    "metrics": False,
    "logs": False,
    "operation_spans": False,
    "auto_configure": False,
}
"""FastAPI's own would read the environment, and log the input of requests that do not fit; ours knows of batches."""

log = logging.getLogger("bootleg")


def create_app(
    bundles: Bundle | Sequence[Bundle],
    settings: Settings,
    *,
    open_model: Callable[[Bundle, EngineSettings], Any] = open_engine,
    cache: Cache | None = None,
    on_fatal: Callable[[BaseException], None] | None = None,
    on_started: Callable[[BaseException | None], None] | None = None,
    tracing: Tracing | None = None,
) -> FastAPI:
    """Build the application of one bundle or several.

    Args:
        bundles: verified; the first one is the default.
        settings: composed.
        open_model: opens an engine; tests pass one without a model.
        cache: overrides the configured one.
        on_fatal: ends the process, after an error of the device that nothing but a new process recovers from.
        on_started: when given, the models are loaded while the application already answers that it is starting, and
            this is called when all are ready, or with what went wrong. None: the start waits for them, and raises.
        tracing: makes a trace of each request.

    Raises:
        StartupError: the file of API keys cannot be used, or two bundles have one name.
    """
    metrics = Metrics()
    publish_build(metrics)
    models = Models(
        [bundles] if isinstance(bundles, Bundle) else bundles,
        settings,
        metrics,
        cache or build_cache(settings.cache, metrics),
        open_model=open_model,
        on_fatal=on_fatal,
    )
    # FastAPIOffline's pages load nothing from elsewhere.
    make = FastAPIOffline if settings.access.documents else partial(FastAPI, openapi_url=None)
    app = make(
        redoc_url=None,
        telemetry=NO_OWN_TELEMETRY,
        dependencies=[Depends(authorised)],
        title="Bootleg Vision",
        version=importlib.metadata.version("bootleg-vision"),
        summary="Image embeddings and patch tokens from a self-supervised vision transformer",
        lifespan=_lifespan(models, on_started, tracing),
    )
    access = settings.access
    app.state.models = models
    app.state.metrics = metrics
    app.state.admission = Admission(settings.limits.request_seconds, metrics)
    app.state.keys = KeyRing(read_keys(access.keys_file)) if access.keys_file else None
    app.state.admin_keys = KeyRing(read_keys(access.admin_keys_file)) if access.admin_keys_file else None
    app.state.open = OPEN | {"/metrics"} if access.show_metrics else OPEN
    # Looked through in this order for each request: those that are asked most come first.
    for module in (routes, open_inference, openai, routes_segment, tei, cohere, weaviate, routes_meta):
        app.include_router(module.router)
    if access.show_metrics is not False:
        app.include_router(routes_meta.metrics_router)
    if access.admin_keys_file is not None:
        app.include_router(routes_admin.router)
    if access.show_page:
        app.router.routes.extend(page_routes())
    # A redirect to the path without its last slash would name the host that the request claims, and ask for no key.
    app.router.redirect_slashes = False
    documents.install(app)
    install_error_handlers(app)
    app.add_middleware(DirectRoutes, routers=[routes.router, open_inference.router])
    app.add_middleware(HeldBodies, max_bytes=settings.limits.max_held_bytes, metrics=metrics)
    app.add_middleware(Edge, endings=Endings(metrics, tracing))
    if access.cors_origins:
        app.add_middleware(CORSMiddleware, **cors(access.cors_origins))
    return app


def _lifespan(
    models: Models, on_started: Callable[[BaseException | None], None] | None, tracing: Tracing | None
) -> Any:
    @contextlib.asynccontextmanager
    async def lifespan(_app: FastAPI) -> AsyncIterator[None]:
        log.info("event loop: %s", type(asyncio.get_running_loop()).__module__)  # uvloop, if it is there
        if on_started is None:
            await models.start()
            starting: asyncio.Task[None] | None = None
        else:
            tell = on_started
            starting = asyncio.create_task(models.start(), name="start")
            starting.add_done_callback(lambda task: None if task.cancelled() else tell(task.exception()))
        try:
            yield
        finally:
            if starting is not None:
                starting.cancel()
            await models.close()
            if tracing is not None:
                await asyncio.to_thread(tracing.close)

    return lifespan
