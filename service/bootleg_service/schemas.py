"""Request bodies, and the shapes of answers as the OpenAPI document shows them."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

ImageText = Annotated[str, Field(description="One image: a data URI, or bare base64 of the encoded file.")]


class EmbeddingRequest(BaseModel):
    """Body of ``POST /v1/embeddings``: OpenAI's, with images in the place of text."""

    model_config = ConfigDict(extra="ignore")  # OpenAI's clients send fields of their own

    input: ImageText | Annotated[list[ImageText], Field(fail_fast=True)] = Field(description="One image or several.")
    model: str | None = Field(None, description="As listed by GET /v1/models; the served one when absent.")
    encoding_format: Literal["float", "base64"] = "float"
    dimensions: int | None = Field(None, ge=1, description="Keep the first numbers only; then L2-normalised.")
    normalize: bool = Field(default=False, description="L2-normalise the vectors.")


class Embedding(BaseModel):
    """One image's vector."""

    object: Literal["embedding"] = "embedding"
    index: int
    embedding: list[float] | str


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


class Grid(BaseModel):
    """Rows and columns."""

    height: int
    width: int


class PatchTokens(BaseModel):
    """One image's patch tokens (dense features), top left first; CLS and registers are left out."""

    object: Literal["patch_tokens"] = "patch_tokens"
    index: int
    grid: Grid
    dim: int
    dtype: Literal["float16", "float32"]
    patch_size: int
    image_size: Grid
    patch_tokens: str = Field(description="base64, little-endian, row-major [height, width, dim]")


class PatchTokensList(BaseModel):
    """Patch tokens of every image of a request."""

    object: Literal["list"] = "list"
    data: list[PatchTokens]
    model: str
    embedding_space: str
    usage: Usage


class ErrorDetail(BaseModel):
    """What went wrong."""

    message: str
    type: str
    param: str | None = None
    code: str
    request_id: str


class ErrorBody(BaseModel):
    """OpenAI's error envelope."""

    error: ErrorDetail


def error_responses(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """OpenAPI entries for the errors a route may answer with."""
    return {status: {"model": ErrorBody} for status in (400, 406, 409, 413, 415, 422, 500, 503, 504, *statuses)}
