"""A typed client of the embedding service, for threads and for asyncio. Needs httpx: ``bootleg-vision[client]``.

with Client("http://127.0.0.1:8000") as client:
    vectors = client.embed(["a.jpg", "b.png"]).vectors  # float32 [2, D]

Imports the contract room and httpx; never the service, whose answers it believes no further than their shape.
"""

from bootleg_client.answers import Embeddings, Info, Masks, ModelInfo, PatchGrids
from bootleg_client.asynchronous import AsyncClient
from bootleg_client.errors import (
    AnswerError,
    ApiError,
    AuthenticationError,
    CallDeadlineError,
    ClientError,
    ConnectionLostError,
    ImageRefusedError,
    InputError,
    ModelNotFoundError,
    OverloadedError,
    RequestRefusedError,
    ServerError,
    SpaceMismatchError,
)
from bootleg_client.images import ImageInput
from bootleg_client.settings import Retry
from bootleg_client.synchronous import Client

__all__ = [
    "AnswerError",
    "ApiError",
    "AsyncClient",
    "AuthenticationError",
    "CallDeadlineError",
    "Client",
    "ClientError",
    "ConnectionLostError",
    "Embeddings",
    "ImageInput",
    "ImageRefusedError",
    "Info",
    "InputError",
    "Masks",
    "ModelInfo",
    "ModelNotFoundError",
    "OverloadedError",
    "PatchGrids",
    "RequestRefusedError",
    "Retry",
    "ServerError",
    "SpaceMismatchError",
]
