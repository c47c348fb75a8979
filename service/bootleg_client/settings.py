"""What a client may be told: frozen, checked once when the client is made."""

from __future__ import annotations

import math
from typing import Annotated, Literal
from urllib.parse import urlsplit

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, SecretStr, ValidationError

from bootleg_bundle.errors import first_fault
from bootleg_client.errors import InputError


def _web_address(url: str) -> str:
    parts = urlsplit(url)
    if parts.scheme not in {"http", "https"} or not parts.hostname or parts.username or parts.query:
        raise ValueError("write http://HOST:PORT or https://HOST, without user, password or query")
    return url.rstrip("/")


def _header_value(value: SecretStr) -> SecretStr:
    text = value.get_secret_value()
    if not text or not text.isascii() or not text.isprintable() or " " in text:
        raise ValueError("a key is printable ASCII without spaces")
    return value


Seconds = Annotated[float, Field(gt=0)]
Priority = Literal["interactive", "bulk"]


class _Settings(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Retry(_Settings):
    """When and how long to wait before a repetition. Every request is a pure function, so repeating one is safe.

    The wait is drawn from 0 to ``first_seconds`` doubled with each attempt (full jitter), and comes on top of the
    service's ``Retry-After``.
    """

    attempts: int = Field(8, ge=1, description="in all, of one request")
    seconds: Seconds = Field(math.inf, description="of one request with all its attempts")
    first_seconds: Seconds = Field(0.25, description="upper end of the first wait")
    longest_seconds: Seconds = Field(20.0, description="the upper end stops doubling here")
    statuses: frozenset[int] = frozenset({429, 502, 503, 504})


class ClientSettings(_Settings):
    """All of them."""

    url: Annotated[str, AfterValidator(_web_address)]
    api_key: Annotated[SecretStr, AfterValidator(_header_value)] | None = None
    embedding_space: str | None = Field(None, pattern=r"^[\x21-\x7e]{1,100}$", description="of every answer")
    model: str | None = Field(None, min_length=1, max_length=200, description="one served; None: the default one")
    priority: Priority = Field("interactive", description="bulk gives way at the service")
    retry: Retry = Retry()
    concurrency: int = Field(4, ge=1, le=256, description="requests in flight at the same time")
    deadline_seconds: Seconds = Field(120.0, description="of one call, with all its requests and repetitions")
    attempt_seconds: Seconds = Field(30.0, description="of one request")


def client_settings(**fields: object) -> ClientSettings:
    """Check a client's arguments.

    Raises:
        InputError: with the name of the first that is wrong.
    """
    try:
        return ClientSettings.model_validate(fields)
    except ValidationError as error:
        field, reason = first_fault(error)
        raise InputError(f"{field}: {reason}") from None
