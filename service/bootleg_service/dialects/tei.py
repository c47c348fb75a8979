"""text-embeddings-inference's ``/embed``: Hugging Face's client, Milvus, LangChain and LlamaIndex speak it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fastapi import APIRouter, Request, Response
from pydantic import BaseModel, ConfigDict, Field

from bootleg_service import answers, documents
from bootleg_service.admission import admit
from bootleg_service.dialects.envelopes import TEI
from bootleg_service.disconnect import while_connected
from bootleg_service.examples import EXAMPLE_IMAGE
from bootleg_service.json_bodies import decode_images, read_json, validate
from bootleg_service.respond import respond, settle
from bootleg_service.schemas import EmbeddingOptions, ImageText
from bootleg_service.selection import check_options, embeddings, select
from bootleg_service.state import service_of

if TYPE_CHECKING:
    from bootleg_bundle.errors import BootlegError

router = APIRouter(tags=["text-embeddings-inference"])


class EmbedBody(BaseModel):
    """Body of ``POST /embed``. Options about text are passed over."""

    model_config = ConfigDict(extra="ignore", json_schema_extra={"example": {"inputs": [EXAMPLE_IMAGE]}})

    inputs: ImageText | list[ImageText]
    normalize: bool = Field(default=True, description="L2-normalise the vectors, as TEI does unless it is told not to.")
    dimensions: int | None = Field(None, ge=1, description="Keep the first numbers only; then L2-normalised.")


_DOCUMENTED = documents.of_images(
    list[list[float]], documents.body(EmbedBody), without=("not_acceptable", "model_not_found"), dialect=TEI
)


@router.post("/embed", **_DOCUMENTED)
@router.post("/", include_in_schema=False)  # what Hugging Face's client posts to when it has the server's address only
async def embed(request: Request) -> Response:
    """Vectors of images, given as data URIs or bare base64: a list of lists. Of the default model."""
    service = service_of(request)
    service.check_pinned_space(request)
    check_options(request)
    limits = service.settings.limits

    def parse(raw: bytes) -> tuple[EmbedBody, list[bytes | BootlegError]]:
        body = validate(EmbedBody, raw)
        texts = [body.inputs] if isinstance(body.inputs, str) else body.inputs
        return body, decode_images(texts, limits, "inputs")

    body, images = await read_json(request, limits, parse)
    options = EmbeddingOptions(dimensions=body.dimensions, normalize=body.normalize)
    selection = select(service, request, options)
    ticket = admit(request, len(images))
    found = await while_connected(request, service.pipeline.answer_each(images, selection.output, ticket))
    settle(found, "inputs")
    return await respond(
        lambda: (answers.to_json(embeddings(found, options, selection).values), {}),
        found,
        answers.JSON,
        selection.space,
    )
