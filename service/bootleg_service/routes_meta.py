"""The routes that describe the service: models, information, health, metrics."""

from __future__ import annotations

import importlib.metadata
import time
from typing import Any

from fastapi import APIRouter, Request, Response

from bootleg_service.answers import JSON, to_json
from bootleg_service.state import STALL_SECONDS, Service, service_of

router = APIRouter(tags=["service"])


@router.get("/v1/models")
async def models(request: Request) -> dict[str, Any]:
    """The served models, in OpenAI's list."""
    return {"object": "list", "data": [_model(service_of(request))]}


@router.get("/v1/models/{model}")
async def model(request: Request, model: str) -> dict[str, Any]:
    """One served model."""
    service = service_of(request)
    service.check_model(model)
    return _model(service)


@router.get("/info")
async def info(request: Request) -> dict[str, Any]:
    """What runs here, in the names that text-embeddings-inference uses where it has them."""
    service = service_of(request)
    manifest, settings = service.bundle.manifest, service.settings
    return {
        "model_id": manifest.name,
        "model_sha": service.bundle.sha256,
        "model_dtype": service.engine.precision,
        "embedding_space": manifest.embedding_space,
        "device": service.engine.device,
        "providers": service.engine.providers,
        "max_client_batch_size": settings.limits.max_images,
        "max_batch_requests": settings.batch.max_batch,
        "max_image_bytes": settings.limits.image.max_bytes,
        "max_image_pixels": settings.limits.image.max_pixels,
        "version": importlib.metadata.version("bootleg-vision"),
    }


@router.get("/health/live")
async def live(request: Request) -> Response:
    """200 while the event loop turns and the engine makes progress, else 503."""
    service = service_of(request)
    busy = service.batcher.thread.busy_since
    stalled = busy is not None and time.monotonic() - busy > STALL_SECONDS
    return _health("stalled" if stalled else "live" if service.batcher.alive else "dead", ok="live")


@router.get("/health/ready")
async def ready(request: Request) -> Response:
    """200 when requests are welcome: loaded, warm, golden check passed, not draining; else 503."""
    service = service_of(request)
    good = service.ready and service.batcher.alive and service.batcher.healthy and not service.pipeline.draining
    return _health("ready" if good else "not ready", ok="ready")


@router.get("/metrics")
async def metrics(request: Request) -> Response:
    """Prometheus metrics."""
    return Response(service_of(request).metrics.render(), media_type="text/plain; version=0.0.4; charset=utf-8")


def _health(status: str, *, ok: str) -> Response:
    return Response(to_json({"status": status}), status_code=200 if status == ok else 503, media_type=JSON)


def _model(service: Service) -> dict[str, Any]:
    manifest = service.bundle.manifest
    return {
        "id": manifest.name,
        "object": "model",
        "created": 0,
        "owned_by": "bootleg-vision",
        "embedding_space": manifest.embedding_space,
        "dimensions": manifest.outputs.dim,
        "grid": {"height": manifest.outputs.grid[0], "width": manifest.outputs.grid[1]},
        "patch_size": manifest.architecture.patch_size,
        "image_size": {"height": manifest.preprocess.height, "width": manifest.preprocess.width},
        "layers": list(manifest.outputs.layers),
        "normalized": False,
        "precision": service.engine.precision,
    }
