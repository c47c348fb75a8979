"""Request bodies, and the shapes of answers as the OpenAPI document shows them."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from bootleg_service.examples import EXAMPLE_IMAGE
from bootleg_service.selection import Pooling
from bootleg_service.vectors import Dtype

ImageText = Annotated[str, Field(description="One image: a data URI, or bare base64 of the encoded file.")]


OnError = Annotated[
    Literal["fail", "partial"],
    Field(description="`fail`: one image at fault fails the request. `partial`: each has its own answer or error."),
]
Layer = Annotated[
    int | None,
    Field(ge=1, description="A hidden layer, 1-based, among those of GET /v1/models; the encoder's end when absent."),
]


Model = Annotated[str | None, Field(description="As listed by GET /v1/models; the default one when absent.")]


class EmbeddingOptions(BaseModel):
    """What a request may choose of its vectors."""

    model_config = ConfigDict(frozen=True)

    encoding_format: Literal["float", "base64"] = Field("float", description="Of JSON answers.")
    dimensions: int | None = Field(None, ge=1, description="Keep the first numbers only; then L2-normalised.")
    normalize: bool = Field(default=False, description="L2-normalise the vectors.")
    dtype: Dtype = Field("float32", description="Of the numbers sent. int8 and uint8: by cosine; bits: by Hamming.")
    layer: Layer = None
    pooling: Pooling = Field("mean", description="Of the patch tokens.")
    on_error: OnError = "fail"
    model: Model = None


class EmbeddingRequest(EmbeddingOptions):
    """Body of ``POST /v1/embeddings``: OpenAI's, with images in the place of text."""

    model_config = ConfigDict(extra="ignore", json_schema_extra={"example": {"input": EXAMPLE_IMAGE}})
    # OpenAI's clients send fields of their own, which are passed over.

    input: ImageText | Annotated[list[ImageText], Field(fail_fast=True)] = Field(description="One image or several.")


class PatchOptions(BaseModel):
    """What a request may choose of its patch tokens."""

    model_config = ConfigDict(frozen=True)

    dtype: Literal["float16", "float32"] = Field("float16", description="Of the numbers sent.")
    layer: Layer = None
    on_error: OnError = "fail"
    model: Model = None


class ItemError(BaseModel):
    """Why one image has no answer, with ``on_error=partial``."""

    code: str
    message: str


class Embedding(BaseModel):
    """One image's vector."""

    object: Literal["embedding"] = "embedding"
    index: int
    embedding: list[float] | str | None
    error: ItemError | None = None


class Usage(BaseModel):
    """What was computed, in OpenAI's names: a token is a patch."""

    prompt_tokens: int
    total_tokens: int
    images: int


class EmbeddingList(BaseModel):
    """OpenAI's list of embeddings, and the space they live in."""

    object: Literal["list"] = "list"
    data: list[Embedding]
    model: str
    embedding_space: str
    usage: Usage
    dtype: str


class Grid(BaseModel):
    """Rows and columns."""

    height: int
    width: int


class PatchTokens(BaseModel):
    """One image's patch tokens (dense features), top left first; CLS and registers are left out."""

    object: Literal["patch_tokens"] = "patch_tokens"
    index: int
    patch_tokens: str | None = Field(description="base64, little-endian, row-major [height, width, dim]")
    grid: Grid | None = None
    dim: int | None = None
    dtype: Literal["float16", "float32"] | None = None
    patch_size: int | None = None
    image_size: Grid | None = None
    error: ItemError | None = None


class PatchTokensList(BaseModel):
    """Patch tokens of every image of a request."""

    object: Literal["list"] = "list"
    data: list[PatchTokens]
    model: str
    embedding_space: str
    usage: Usage
