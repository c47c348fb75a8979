"""The routes that describe the service: models, information, health, metrics."""

from __future__ import annotations

import asyncio
import importlib.metadata
from typing import Annotated, Any

from fastapi import APIRouter, Query, Request, Response
from fastapi.responses import PlainTextResponse
from pydantic import BaseModel

from bootleg_service.answers import JSON, to_json
from bootleg_service.dialects.envelopes import OpenAIError
from bootleg_service.documents import errors
from bootleg_service.health import Reason, not_live, not_ready
from bootleg_service.schemas import Model
from bootleg_service.selection import check_options
from bootleg_service.state import Service, models_of, service_of

router = APIRouter(tags=["service"])
metrics_router = APIRouter(tags=["service"])


class Health(BaseModel):
    """How the service is, and what is wrong with it."""

    status: str
    reasons: list[Reason] = []


class ModelOptions(BaseModel):
    """Of which model."""

    model: Model = None


_HEALTH: dict[int | str, dict[str, Any]] = {
    **errors("unavailable"),
    503: {"model": Health | OpenAIError, "description": "Not so, and why."},
}


@router.get("/v1/models", responses=errors("unavailable"))
async def models(request: Request) -> dict[str, Any]:
    """The served models, in OpenAI's list; the first one is the default."""
    return {"object": "list", "data": [_model(service) for service in models_of(request).served]}


@router.get("/v1/models/{model}", responses=errors("unavailable", "model_not_found"))
async def model(request: Request, model: str) -> dict[str, Any]:
    """One served model."""
    return _model(service_of(request, model))


@router.get("/info", responses=errors("unavailable", "model_not_found", "invalid_request"))
async def info(request: Request, options: Annotated[ModelOptions, Query()]) -> dict[str, Any]:
    """What runs here, in the names that text-embeddings-inference uses where it has them; a token is a patch."""
    check_options(request, ModelOptions)
    service = service_of(request, options.model)
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
        "tokenization_workers": settings.decode.processes or settings.decode.threads,
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
    reasons = not_live(models_of(request))
    return _health(reasons[0].code if reasons else "live", reasons)


@router.get("/health/ready", response_model=Health, responses=_HEALTH)
async def ready(request: Request) -> Response:
    """200 when requests are welcome: every model warm and proved, and the service not about to stop; else 503."""
    reasons = not_ready(models_of(request))
    return _health("not ready" if reasons else "ready", reasons)


@router.get("/health/started", response_model=Health, responses=_HEALTH)
async def started(request: Request) -> Response:
    """200 once all models have been ready; 503 while they are being loaded. For a start-up probe."""
    models = models_of(request)
    return _health("started", []) if models.started else _health("starting", not_ready(models))


@metrics_router.get(
    "/metrics",
    response_class=PlainTextResponse,
    responses=errors(),
)
async def metrics(request: Request) -> Response:
    """Prometheus metrics."""
    text = await asyncio.to_thread(models_of(request).metrics.render)
    return Response(text, media_type="text/plain; version=0.0.4; charset=utf-8")


def _health(status: str, reasons: list[Reason]) -> Response:
    body: dict[str, Any] = {"status": status}
    if reasons:
        body["reasons"] = [reason.model_dump() for reason in reasons]
    return Response(to_json(body), status_code=503 if reasons else 200, media_type=JSON)


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
        "bundle_sha256": service.bundle.sha256,
    }
