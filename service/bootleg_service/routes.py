"""The routes that take images. Each reads, asks the pipeline, and encodes; nothing more."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Annotated, Any, Literal

import numpy as np
from fastapi import APIRouter, Query, Request, Response
from pydantic import ValidationError

from bootleg_bundle.errors import BootlegError
from bootleg_service import answers
from bootleg_service.bodies import decode_base64, read_body, read_images
from bootleg_service.disconnect import while_connected
from bootleg_service.errors import RequestError
from bootleg_service.pipeline import ImageFailure
from bootleg_service.schemas import EmbeddingList, EmbeddingRequest, PatchTokensList, error_responses
from bootleg_service.state import Service, service_of

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from bootleg_service.pipeline import Answer
    from bootleg_service.settings import RequestLimits

router = APIRouter(tags=["images"])

LARGE_BYTES = 64 * 1024
"""Bodies and answers above this are parsed and encoded off the event loop."""

MAX_JSON_MARKS = 10_000

_IMAGE_BODY: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "content": {
            **{
                kind: {"schema": {"type": "string", "format": "binary"}}
                for kind in ("image/jpeg", "image/png", "image/webp")
            },
            "multipart/form-data": {
                "schema": {
                    "type": "object",
                    "required": ["images"],
                    "properties": {"images": {"type": "array", "items": {"type": "string", "format": "binary"}}},
                }
            },
        },
    }
}
_OPENAI_BODY: dict[str, Any] = {
    "requestBody": {"required": True, "content": {"application/json": {"schema": EmbeddingRequest.model_json_schema()}}}
}
_BINARY = {kind: {"schema": {"type": "string", "format": "binary"}} for kind in (answers.NPY, answers.RAW)}


def _documented(model: type) -> dict[int | str, dict[str, Any]]:
    return {200: {"model": model, "content": _BINARY}, **error_responses(408)}


@router.post("/v1/images/embeddings", responses=_documented(EmbeddingList), openapi_extra=_IMAGE_BODY)
async def image_embeddings(
    request: Request,
    encoding_format: Annotated[Literal["float", "base64"], Query()] = "float",
    dimensions: Annotated[int | None, Query(ge=1, description="first numbers only; then L2-normalised")] = None,
    normalize: Annotated[bool, Query(description="L2-normalise the vectors")] = False,  # noqa: FBT002
) -> Response:
    """Embed one image sent as the raw body, or several sent as multipart files named ``images``.

    ``Accept`` chooses JSON, ``.npy`` (float32 ``[n, D]``) or raw little-endian float32.
    """
    service = service_of(request)
    service.check_pinned_space(request)
    _check_options(request, "encoding_format", "dimensions", "normalize")
    wire = answers.negotiate(request.headers.get("accept", ""))
    _check_dimensions(service, dimensions)
    images = await read_images(request, service.settings.limits)
    found = await while_connected(request, service.pipeline.answer(images, "embedding"))
    vectors = answers.shorten(_join(found).astype(np.float32), dimensions, normalize=normalize)
    manifest = service.bundle.manifest
    encode = {
        answers.JSON: lambda: answers.embedding_list(vectors, manifest, encoding_format),
        answers.NPY: lambda: answers.npy(vectors),
        answers.RAW: vectors.tobytes,
    }
    return await _respond(encode[wire], vectors, wire, found)


@router.post("/v1/images/patches", responses=_documented(PatchTokensList), openapi_extra=_IMAGE_BODY)
async def image_patches(
    request: Request,
    dtype: Annotated[Literal["float16", "float32"], Query(description="of the numbers sent")] = "float16",
) -> Response:
    """Patch tokens (dense features) of one image or several: a grid of vectors for each.

    ``Accept`` chooses JSON with base64 payloads, ``.npy`` (``[n, gh, gw, D]``) or raw little-endian numbers.
    Computed and kept in float16; float32 is the same numbers, widened.
    """
    service = service_of(request)
    service.check_pinned_space(request)
    _check_options(request, "dtype")
    wire = answers.negotiate(request.headers.get("accept", ""))
    images = await read_images(request, service.settings.limits)
    found = await while_connected(request, service.pipeline.answer(images, "patch_tokens"))
    grids = _join(found).astype(f"<f{2 if dtype == 'float16' else 4}", copy=False)
    manifest = service.bundle.manifest
    encode = {
        answers.JSON: lambda: answers.patch_list(grids, manifest),
        answers.NPY: lambda: answers.npy(grids),
        answers.RAW: grids.tobytes,
    }
    return await _respond(encode[wire], grids, wire, found)


@router.post("/v1/embeddings", responses=_documented(EmbeddingList), openapi_extra=_OPENAI_BODY)
async def openai_embeddings(request: Request) -> Response:
    """OpenAI's embeddings call with images, as data URIs or bare base64, in the place of text."""
    service = service_of(request)
    service.check_pinned_space(request)
    _check_options(request)
    limits = service.settings.limits
    raw = await read_body(request, limits.max_body_bytes, limits.receive_seconds)
    large = len(raw) > LARGE_BYTES
    body, images = await asyncio.to_thread(_parse_openai, raw, limits) if large else _parse_openai(raw, limits)
    service.check_model(body.model)
    _check_dimensions(service, body.dimensions)
    found = await while_connected(request, service.pipeline.answer(images, "embedding", field="input"))
    vectors = answers.shorten(_join(found).astype(np.float32), body.dimensions, normalize=body.normalize)
    manifest = service.bundle.manifest
    return await _respond(
        lambda: answers.embedding_list(vectors, manifest, body.encoding_format), vectors, answers.JSON, found
    )


def _parse_openai(raw: bytes, limits: RequestLimits) -> tuple[EmbeddingRequest, list[bytes]]:
    if sum(raw.count(mark) for mark in (b",", b"[", b"{")) > MAX_JSON_MARKS:  # a validator describes each wrong one
        raise RequestError(f"body: over {MAX_JSON_MARKS:,} JSON elements")
    try:
        body = EmbeddingRequest.model_validate_json(raw)
    except ValidationError as error:
        first = error.errors(include_url=False, include_context=False, include_input=False)[0]
        field = ".".join(str(part) for part in first["loc"] if part not in {"str", "list[str]"}) or None
        raise RequestError(f"{field or 'body'}: {first['msg']}", param=field) from None
    texts = [body.input] if isinstance(body.input, str) else body.input
    if not 0 < len(texts) <= limits.max_images:
        raise RequestError(f"input: {len(texts)} images; 1 to {limits.max_images} are allowed", param="input")
    images: list[bytes] = []
    for i, text in enumerate(texts):
        try:
            images.append(decode_base64(text, limits, f"input[{i}]"))
        except BootlegError as error:
            raise ImageFailure(error, f"input[{i}]") from error
    return body, images


def _check_options(request: Request, *known: str) -> None:
    if not set(request.query_params) <= set(known):  # a misspelt option must not be taken for its default
        raise RequestError(f"query: an unknown option; known here: {', '.join(known) or 'none'}")


def _join(found: Sequence[Answer]) -> np.ndarray[Any, np.dtype[np.floating[Any]]]:
    return np.stack([answer.value for answer in found])


def _check_dimensions(service: Service, dimensions: int | None) -> None:
    dim = service.bundle.manifest.outputs.dim
    if dimensions is not None and dimensions > dim:
        raise RequestError(f"dimensions: {dimensions} asked for; the model has {dim}", param="dimensions")


async def _respond(
    encode: Callable[[], bytes], array: np.ndarray[Any, Any], media_type: str, found: Sequence[Answer]
) -> Response:
    large = array.nbytes > LARGE_BYTES
    content = await asyncio.to_thread(encode) if large else encode()
    headers = {"X-Cache": _cache_header(found)}
    if media_type == answers.RAW:
        headers |= {"X-Shape": ",".join(map(str, array.shape)), "X-Dtype": str(array.dtype)}
    return Response(content, media_type=media_type, headers=headers)


def _cache_header(found: Sequence[Answer]) -> str:
    hits = sum(answer.hit for answer in found)
    if hits == len(found):
        return "hit"
    return f"partial; hits={hits}/{len(found)}" if hits else "miss"
