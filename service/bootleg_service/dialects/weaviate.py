"""What Weaviate's ``img2vec-neural`` and ``multi2vec-clip`` modules expect of their inference container."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

from fastapi import APIRouter, Request, Response
from pydantic import BaseModel, ConfigDict, Field

from bootleg_service import answers, documents
from bootleg_service.admission import admit
from bootleg_service.dialects.envelopes import WEAVIATE
from bootleg_service.disconnect import while_connected
from bootleg_service.errors import RequestError, UnavailableError
from bootleg_service.examples import EXAMPLE_BASE64
from bootleg_service.health import not_live, not_ready, summary
from bootleg_service.json_bodies import decode_images, read_json, validate
from bootleg_service.respond import respond, settle
from bootleg_service.schemas import EmbeddingOptions, ImageText
from bootleg_service.selection import check_options, embeddings, select
from bootleg_service.state import models_of, service_of

if TYPE_CHECKING:
    from bootleg_bundle.errors import BootlegError

router = APIRouter(tags=["weaviate"])

_WITHOUT = ("not_acceptable", "model_not_found")
_AS_THEY_ARE = EmbeddingOptions()


class VectorsBody(BaseModel):
    """Body of ``POST /vectors``."""

    model_config = ConfigDict(json_schema_extra={"example": {"id": "1", "image": EXAMPLE_BASE64}})

    id: str = Field("", max_length=1000)
    image: ImageText


class VectorsAnswer(BaseModel):
    """One image's vector."""

    id: str
    vector: list[float]
    dim: int


class VectorizeBody(BaseModel):
    """Body of ``POST /vectorize``."""

    model_config = ConfigDict(json_schema_extra={"example": {"texts": [], "images": [EXAMPLE_BASE64]}})

    texts: list[str] | None = Field(None, description="Empty: the model takes images only.")
    images: Annotated[list[ImageText], Field(fail_fast=True)] | None = None


class VectorizeAnswer(BaseModel):
    """The images' vectors."""

    textVectors: list[list[float]]  # noqa: N815  # Weaviate's names
    imageVectors: list[list[float]]  # noqa: N815


@router.post(
    "/vectors",
    **documents.of_images(VectorsAnswer, documents.body(VectorsBody), without=_WITHOUT, dialect=WEAVIATE),
)
async def vectors(request: Request) -> Response:
    """The vector of one image by the default model, as ``img2vec-neural`` asks for it."""
    service = service_of(request)
    selection = select(service, request, _AS_THEY_ARE)
    check_options(request)
    limits = service.settings.limits

    def parse(raw: bytes) -> tuple[VectorsBody, list[bytes | BootlegError]]:
        body = validate(VectorsBody, raw)
        return body, decode_images([body.image], limits, "image")

    body, images = await read_json(request, limits, parse)
    ticket = admit(request, len(images))
    found = await while_connected(request, service.pipeline.answer_each(images, selection.output, ticket))
    settle(found, "image")

    def encode() -> tuple[bytes, dict[str, str]]:
        (vector,) = embeddings(found, _AS_THEY_ARE, selection).values
        return answers.to_json({"id": body.id, "vector": vector, "dim": len(vector)}), {}

    return await respond(encode, found, answers.JSON, selection.space)


@router.post(
    "/vectorize",
    **documents.of_images(VectorizeAnswer, documents.body(VectorizeBody), without=_WITHOUT, dialect=WEAVIATE),
)
async def vectorize(request: Request) -> Response:
    """The vectors of several images by the default model, as ``multi2vec-clip`` asks for them."""
    service = service_of(request)
    selection = select(service, request, _AS_THEY_ARE)
    check_options(request)
    limits = service.settings.limits

    def parse(raw: bytes) -> list[bytes | BootlegError]:
        body = validate(VectorizeBody, raw)
        if body.texts:
            raise RequestError("texts: this model takes images only", param="texts")
        return decode_images(body.images or [], limits, "images")

    images = await read_json(request, limits, parse)
    ticket = admit(request, len(images))
    found = await while_connected(request, service.pipeline.answer_each(images, selection.output, ticket))
    settle(found, "images")

    def encode() -> tuple[bytes, dict[str, str]]:
        chosen = embeddings(found, _AS_THEY_ARE, selection).values
        return answers.to_json({"textVectors": [], "imageVectors": chosen}), {}

    return await respond(encode, found, answers.JSON, selection.space)


@router.get("/meta", responses=documents.errors("unavailable", dialect=WEAVIATE))
async def meta(request: Request) -> dict[str, Any]:
    """What Weaviate shows of the model."""
    manifest = service_of(request).bundle.manifest
    return {
        "model": manifest.name,
        "embedding_space": manifest.embedding_space,
        "dimensions": manifest.outputs.dim,
        "multimodal": False,
    }


@router.get("/.well-known/ready", status_code=204, responses=documents.errors("unavailable", dialect=WEAVIATE))
async def ready(request: Request) -> None:
    """204 when requests are welcome."""
    if reasons := not_ready(models_of(request)):
        raise UnavailableError(f"not ready: {summary(reasons)}", retry_after=1)


@router.get("/.well-known/live", status_code=204, responses=documents.errors("unavailable", dialect=WEAVIATE))
async def live(request: Request) -> None:
    """204 while the engine makes progress."""
    if reasons := not_live(models_of(request)):
        raise UnavailableError(f"not live: {summary(reasons)}", retry_after=1)
