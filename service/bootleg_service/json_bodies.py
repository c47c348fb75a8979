"""Reading JSON bodies: bounded, validated, with their images decoded. Every dialect's body comes through here."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final, TypeVar

from pydantic import BaseModel, ValidationError

from bootleg_bundle.errors import BootlegError, first_fault
from bootleg_service.bodies import decode_base64, read_body
from bootleg_service.errors import RequestError
from bootleg_service.pipeline import ImageFailure

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from starlette.requests import Request

    from bootleg_service.settings import RequestLimits

T = TypeVar("T")
M = TypeVar("M", bound=BaseModel)

LARGE_BYTES: Final = 64 * 1024
"""Bodies and answers above this are parsed and encoded off the event loop."""

MAX_JSON_MARKS: Final = 10_000


async def read_json(request: Request, limits: RequestLimits, parse: Callable[[bytes], T]) -> T:
    """Read a body and parse it, off the event loop if it is large.

    Raises:
        BodyTooLargeError: more than a body may have.
        ReceiveTimeoutError: it did not arrive in time.
        BootlegError: what ``parse`` raises.
    """
    raw = await read_body(request, limits.max_body_bytes, limits.receive_seconds)
    return await asyncio.to_thread(parse, raw) if len(raw) > LARGE_BYTES else parse(raw)


def validate(model: type[M], raw: bytes, *, marks: int | None = None) -> M:
    """Parse a body by its model.

    Args:
        model: to parse by.
        raw: JSON.
        marks: how many elements it may have; None: ``MAX_JSON_MARKS``. A validator describes each wrong one.

    Raises:
        RequestError: no JSON, too many elements, or a field that does not fit; ``param`` names it.
    """
    most = marks or MAX_JSON_MARKS
    if sum(raw.count(mark) for mark in (b",", b"[", b"{")) > most:
        raise RequestError(f"body: over {most:,} JSON elements")
    try:
        return model.model_validate_json(raw)
    except ValidationError as error:
        place, reason = first_fault(error)
    parts = place.split(".")
    field = parts[0] if parts[0] in model.model_fields else None
    raise RequestError(f"{field or 'body'}: {reason}", param=field)


def decode_images(
    texts: Sequence[str], limits: RequestLimits, field: str, *, partial: bool = False
) -> list[bytes | BootlegError]:
    """Decode a request's images from base64.

    Args:
        texts: data URIs or bare base64.
        limits: how many, how large.
        field: what the request calls them, for errors.
        partial: an image that cannot be decoded is returned as its error.

    Raises:
        RequestError: none, or too many.
        ImageFailure: the first that cannot be decoded.
    """
    if not 0 < len(texts) <= limits.max_images:
        raise RequestError(f"{field}: {len(texts)} images; 1 to {limits.max_images} are allowed", param=field)
    images: list[bytes | BootlegError] = []
    for i, text in enumerate(texts):
        try:
            images.append(decode_base64(text, limits, f"{field}[{i}]"))
        except BootlegError as error:
            if not partial:
                raise ImageFailure(error, f"{field}[{i}]") from error
            images.append(error)
    return images
