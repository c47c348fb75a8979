"""OpenAI's embeddings call with images in the place of text: what its clients send and read as it is."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fastapi import APIRouter, Request, Response

from bootleg_service import answers, documents
from bootleg_service.admission import admit
from bootleg_service.disconnect import while_connected
from bootleg_service.json_bodies import decode_images, read_json, validate
from bootleg_service.respond import respond, settle
from bootleg_service.schemas import EmbeddingList, EmbeddingRequest
from bootleg_service.selection import check_options, embeddings, select
from bootleg_service.state import check_pin_is_served, models_of, service_of

if TYPE_CHECKING:
    from bootleg_bundle.errors import BootlegError

router = APIRouter(tags=["images"])


@router.post(
    "/v1/embeddings",
    **documents.of_images(EmbeddingList, documents.body(EmbeddingRequest), without=("not_acceptable",)),
)
async def openai_embeddings(request: Request) -> Response:
    """OpenAI's embeddings call with images, as data URIs or bare base64, in the place of text."""
    check_pin_is_served(request)
    check_options(request)
    limits = models_of(request).settings.limits

    def parse(raw: bytes) -> tuple[EmbeddingRequest, list[bytes | BootlegError]]:
        body = validate(EmbeddingRequest, raw)
        texts = [body.input] if isinstance(body.input, str) else body.input
        return body, decode_images(texts, limits, "input", partial=body.on_error == "partial")

    options, images = await read_json(request, limits, parse)
    service = service_of(request, options.model)
    selection = select(service, request, options)
    ticket = admit(request, len(images))
    found = await while_connected(request, service.pipeline.answer_each(images, selection.output, ticket))
    settle(found, "input", partial=options.on_error == "partial")

    def encode() -> tuple[bytes, dict[str, str]]:
        chosen = embeddings(found, options, selection)
        return answers.embedding_list(chosen, selection, options.encoding_format, options.dtype), {}

    return await respond(encode, found, answers.JSON, selection.space)
