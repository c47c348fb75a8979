"""The routes that describe the service: models, information, health, metrics."""

from __future__ import annotations

import asyncio
import importlib.metadata
import time
from typing import Any

from fastapi import APIRouter, Request, Response
from fastapi.responses import PlainTextResponse
from pydantic import BaseModel

from bootleg_service.answers import JSON, to_json
from bootleg_service.dialects.envelopes import OpenAIError
from bootleg_service.documents import errors
from bootleg_service.state import STALL_SECONDS, Service, service_of

router = APIRouter(tags=["service"])


class Health(BaseModel):
    """How the service is; for one that has not started, an error."""

    status: str


_HEALTH: dict[int | str, dict[str, Any]] = {
    **errors("unavailable"),
    503: {"model": Health | OpenAIError, "description": "Not so, or not started."},
}


@router.get("/v1/models", responses=errors("unavailable"))
async def models(request: Request) -> dict[str, Any]:
    """The served models, in OpenAI's list."""
    return {"object": "list", "data": [_model(service_of(request))]}


@router.get("/v1/models/{model}", responses=errors("unavailable", "model_not_found"))
async def model(request: Request, model: str) -> dict[str, Any]:
    """One served model."""
    service = service_of(request)
    service.check_model(model)
    return _model(service)


@router.get("/info", responses=errors("unavailable"))
async def info(request: Request) -> dict[str, Any]:
    """What runs here, in the names that text-embeddings-inference uses where it has them; a token is a patch."""
    service = service_of(request)
    manifest, settings = service.bundle.manifest, service.settings
    tokens = manifest.outputs.grid[0] * manifest.outputs.grid[1]
    return {
        "model_id": manifest.name,
        "model_sha": service.bundle.sha256,
        "model_dtype": service.engine.precision,
        "embedding_space": manifest.embedding_space,
        "device": service.engine.device,
        "providers": service.engine.providers,
        "model_type": {"embedding": {"pooling": "mean"}},
        "max_concurrent_requests": settings.batch.max_queue_items,
        "max_input_length": tokens,
        "max_batch_tokens": settings.batch.max_batch * tokens,
        "tokenization_workers": settings.decode_threads,
        "auto_truncate": False,
        "max_client_batch_size": settings.limits.max_images,
        "max_batch_requests": settings.batch.max_batch,
        "max_image_bytes": settings.limits.image.max_bytes,
        "max_image_pixels": settings.limits.image.max_pixels,
        "version": importlib.metadata.version("bootleg-vision"),
    }


@router.get("/health/live", response_model=Health, responses=_HEALTH)
async def live(request: Request) -> Response:
    """200 while the event loop turns and the engine makes progress, else 503."""
    return _health(liveness(service_of(request)), ok="live")


@router.get("/health/ready", response_model=Health, responses=_HEALTH)
async def ready(request: Request) -> Response:
    """200 when requests are welcome: loaded, warm, golden check passed, not draining; else 503."""
    return _health("ready" if is_ready(service_of(request)) else "not ready", ok="ready")


@router.get(
    "/metrics",
    response_class=PlainTextResponse,
    responses=errors("unavailable"),
)
async def metrics(request: Request) -> Response:
    """Prometheus metrics."""
    text = await asyncio.to_thread(service_of(request).metrics.render)
    return Response(text, media_type="text/plain; version=0.0.4; charset=utf-8")


def liveness(service: Service) -> str:
    """``live``, ``stalled`` (a model call does not end) or ``dead``."""
    busy = service.batcher.thread.busy_since
    stalled = busy is not None and time.monotonic() - busy > STALL_SECONDS
    return "stalled" if stalled else "live" if service.batcher.alive else "dead"


def is_ready(service: Service) -> bool:
    """Whether requests are welcome."""
    batcher = service.batcher
    works = batcher.alive and batcher.healthy and service.canary.passed
    return service.ready and works and not service.pipeline.draining


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
        "crop_ratio": manifest.preprocess.crop_ratio,
        "layers": list(manifest.outputs.layers),
        "heads": {name: [label.name for label in head.classes] for name, head in manifest.heads.items()},
        "normalized": False,
        "precision": service.engine.precision,
    }
