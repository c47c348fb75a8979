"""Cohere's ``/v2/embed`` for images: its SDK, and what is set up for it, such as OpenSearch's connectors."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, Literal

from fastapi import APIRouter, Request, Response
from pydantic import BaseModel, ConfigDict, Field

from bootleg_service import answers, documents
from bootleg_service.admission import admit
from bootleg_service.dialects.envelopes import COHERE
from bootleg_service.disconnect import while_connected
from bootleg_service.errors import RequestError
from bootleg_service.examples import EXAMPLE_IMAGE
from bootleg_service.json_bodies import decode_images, read_json, validate
from bootleg_service.respond import respond, settle
from bootleg_service.schemas import EmbeddingOptions, ImageText, Model
from bootleg_service.selection import check_options, embeddings, select
from bootleg_service.state import check_pin_is_served, models_of, service_of

if TYPE_CHECKING:
    from bootleg_bundle.errors import BootlegError
    from bootleg_service.vectors import Dtype

router = APIRouter(tags=["cohere"])

EmbeddingType = Literal["float", "int8", "uint8", "binary", "ubinary", "base64"]


class ImageUrl(BaseModel):
    """Where an image is: in the request itself."""

    url: ImageText


class Content(BaseModel):
    """A part of an input."""

    type: Literal["image_url"]
    image_url: ImageUrl


class Input(BaseModel):
    """An input of one image."""

    content: list[Content] = Field(min_length=1, max_length=1)


class CohereBody(BaseModel):
    """Body of ``POST /v2/embed``. Options about text are passed over."""

    model_config = ConfigDict(
        extra="ignore", json_schema_extra={"example": {"images": [EXAMPLE_IMAGE], "embedding_types": ["float", "int8"]}}
    )

    model: Model = None
    images: Annotated[list[ImageText], Field(fail_fast=True)] | None = Field(None, description="This or `inputs`.")
    inputs: Annotated[list[Input], Field(fail_fast=True)] | None = None
    texts: list[str] | None = Field(None, description="Refused: the model takes images only.")
    embedding_types: list[EmbeddingType] = Field(default=["float"], min_length=1, max_length=6)
    output_dimension: int | None = Field(None, ge=1, description="Keep the first numbers only.")

    def pictures(self) -> tuple[str, list[str]]:
        """The field that holds the images, and their texts.

        Raises:
            RequestError: text, both fields or none.
        """
        if self.texts:
            raise RequestError("texts: this model takes images only", param="texts")
        if (self.images is None) == (self.inputs is None):
            raise RequestError("images: exactly one of images and inputs is wanted", param="images")
        if self.images is not None:
            return "images", self.images
        return "inputs", [part.content[0].image_url.url for part in self.inputs or []]


class CohereAnswer(BaseModel):
    """Vectors by type."""

    id: str
    embeddings: dict[str, list[list[float]] | list[str]]
    texts: list[str]
    meta: dict[str, Any]


@router.post(
    "/v2/embed",
    **documents.of_images(CohereAnswer, documents.body(CohereBody), without=("not_acceptable",), dialect=COHERE),
)
async def embed(request: Request) -> Response:
    """L2-normalised vectors of images, given as data URIs or bare base64, in one or more number types."""
    check_pin_is_served(request)
    check_options(request)
    limits = models_of(request).settings.limits

    def parse(raw: bytes) -> tuple[CohereBody, str, list[bytes | BootlegError]]:
        body = validate(CohereBody, raw)
        field, texts = body.pictures()
        return body, field, decode_images(texts, limits, field)

    body, field, images = await read_json(request, limits, parse)
    service = service_of(request, body.model)
    options = EmbeddingOptions(dimensions=body.output_dimension, normalize=True)
    try:
        selection = select(service, request, options)
    except RequestError as error:
        raise RequestError(error.message.replace("dimensions", "output_dimension"), param="output_dimension") from None
    ticket = admit(request, len(images))
    found = await while_connected(request, service.pipeline.answer_each(images, selection.output, ticket))
    settle(found, field)

    def typed(name: EmbeddingType) -> Any:
        dtype: Dtype = "float32" if name == "float" or name == "base64" else name  # noqa: PLR1714  # mypy narrows this
        vectors = embeddings(found, options.model_copy(update={"dtype": dtype}), selection).values
        return [answers.base64_numbers(vector) for vector in vectors] if name == "base64" else vectors

    def encode() -> tuple[bytes, dict[str, str]]:
        answer = {
            "id": request.state.request_id,
            "embeddings": {name: typed(name) for name in body.embedding_types},
            "texts": [],
            "meta": {"api_version": {"version": "2"}, "billed_units": {"images": len(found)}},
        }
        return answers.to_json(answer), {}

    return await respond(encode, found, answers.JSON, selection.space)
