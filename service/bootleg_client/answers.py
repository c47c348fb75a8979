"""What calls return, and how answers become arrays."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence  # pydantic reads it
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
from pydantic import BaseModel, ConfigDict, ValidationError

from bootleg_client.errors import AnswerError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from bootleg_client.errors import ClientError
    from bootleg_client.steps import Reply

SPACE_HEADER = "x-embedding-space"
NPY = "application/x-npy"


@dataclass(frozen=True, eq=False)
class Embeddings:
    """Vectors of one call.

    Attributes:
        vectors: float32 ``[n, D]``, in the order of the images; NaN where an image failed, D = 0 if all did.
        model: the name of the model, where the service says it.
        embedding_space: vectors of the same space may be compared.
        failures: by index, the images that failed; always empty unless ``on_error="partial"``.
    """

    vectors: NDArray[np.float32]
    model: str | None
    embedding_space: str
    failures: Mapping[int, ClientError]


@dataclass(frozen=True, eq=False)
class PatchGrids:
    """Patch tokens (dense features) of one call; attributes as of :class:`Embeddings`.

    Attributes:
        tokens: float16 or float32 ``[n, gh, gw, D]``, top left first.
        model: likewise.
        embedding_space: likewise.
        failures: likewise.
    """

    tokens: NDArray[np.floating]
    model: str | None
    embedding_space: str
    failures: Mapping[int, ClientError]


@dataclass(frozen=True, eq=False)
class Masks:
    """Label maps of one call; attributes as of :class:`Embeddings`.

    Attributes:
        labels: uint8 ``[n, h, w]``: a class's number in the head's order, or a cluster's; 255 where the encoder saw
            nothing, and for an image that failed.
        model: likewise.
        embedding_space: likewise.
        failures: likewise.
    """

    labels: NDArray[np.uint8]
    model: str | None
    embedding_space: str
    failures: Mapping[int, ClientError]


class _Answer(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore", protected_namespaces=())  # a newer service says more


class Info(_Answer):
    """``GET /info``: what is served, and the limits of a request."""

    model_id: str
    model_sha: str
    embedding_space: str
    max_client_batch_size: int = 32
    max_image_bytes: int = 10 * 2**20
    max_body_bytes: int = 64 * 2**20
    device: str = ""
    version: str = ""


class Side(_Answer):
    """Rows and columns."""

    height: int
    width: int


class ModelInfo(_Answer):
    """One entry of ``GET /v1/models``."""

    id: str
    embedding_space: str
    dimensions: int
    grid: Side
    patch_size: int
    image_size: Side
    layers: tuple[int, ...]
    precision: str
    heads: Mapping[str, tuple[str, ...]] = {}
    """By name: their classes, in the order of a mask's labels."""


class ModelList(_Answer):
    """``GET /v1/models``."""

    data: tuple[ModelInfo, ...]


A = TypeVar("A", bound=_Answer)


def parsed(reply: Reply, kind: type[A]) -> A:
    """A JSON answer as ``kind``.

    Raises:
        AnswerError: it is something else.
    """
    try:
        return kind.model_validate_json(reply.content)
    except ValidationError as error:
        raise _unfit(reply, f"no {kind.__name__} of this API") from error


def rows(reply: Reply, count: int, dimensions: int, dtypes: Sequence[str]) -> tuple[NDArray[Any], str]:
    """The array of an ``.npy`` answer, first axis ``count``, and the embedding space of its header.

    Args:
        reply: to a request with ``count`` images.
        count: of them.
        dimensions: of the array.
        dtypes: any of which its numbers may have.

    Raises:
        AnswerError: it is something else.
    """
    try:
        array: NDArray[Any] = np.load(io.BytesIO(reply.content), allow_pickle=False)
    except (ValueError, EOFError, OSError) as error:
        raise _unfit(reply, "no .npy file") from error
    if not isinstance(array, np.ndarray):
        raise _unfit(reply, "no .npy file")
    if array.ndim != dimensions or len(array) != count or array.dtype not in dtypes:
        raise _unfit(reply, f"an array {array.dtype} {array.shape} where {count} rows were asked for")
    space = reply.header(SPACE_HEADER)
    if space is None:
        raise _unfit(reply, "without X-Embedding-Space; is this a Bootleg Vision service?")
    return array, space


def _unfit(reply: Reply, what: str) -> AnswerError:
    error = AnswerError(f"the answer is {what}")
    error.request_id = reply.header("x-request-id")
    return error
