"""From the pipeline's answers to a response: whether faults fail it, its bytes, its headers. The routes end here."""

from __future__ import annotations

import asyncio
import time
from functools import cache
from typing import TYPE_CHECKING, Any

import numpy as np
from starlette.responses import Response

from bootleg_bundle.errors import BootlegError
from bootleg_service import answers, stages
from bootleg_service.errors import STATUS
from bootleg_service.json_bodies import LARGE_BYTES
from bootleg_service.pipeline import Answer, ImageFailure
from bootleg_service.state import SPACE_HEADER

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Sequence

    from numpy.typing import NDArray

    from bootleg_service.answers import Rows, Wire
    from bootleg_service.response_cache import ResponseCache

MAX_LISTED_FAULTS = 100
"""Images at fault that a binary answer's header names; its NaN rows tell them all."""


def settle(found: Sequence[Answer | BootlegError], field: str, *, partial: bool = False) -> None:
    """Fail the request for the first image at fault, or, with ``partial``, for one that was refused for the load.

    Raises:
        ImageFailure: naming it as a place in ``field``. What the others gave is cached, so that asking again is cheap.
    """
    for i, answer in enumerate(found):
        if isinstance(answer, BootlegError) and not (partial and STATUS.get(answer.code) not in {429, 503, 504}):
            raise ImageFailure(answer, f"{field}[{i}]")


def rows(
    found: Sequence[Answer | BootlegError], pick: Callable[[NDArray[np.floating]], NDArray[Any]], shape: tuple[int, ...]
) -> Rows:
    """Stack what ``pick`` takes from each answer, an array of ``shape``; they may be the cache's own."""
    faults = {i: answer for i, answer in enumerate(found) if isinstance(answer, BootlegError)}
    picked = [pick(answer.value) for answer in found if isinstance(answer, Answer)]
    if len(picked) == 1:
        return answers.Rows(picked[0][None], faults)
    return answers.Rows(np.stack(picked) if picked else np.empty((0, *shape), np.float32), faults)


async def respond(
    encode: Callable[[], tuple[bytes, dict[str, str]]],
    found: Sequence[Answer | BootlegError],
    media_type: str,
    space: str,
    *,
    cache: ResponseCache | None = None,
    form: Hashable = None,
) -> Response:
    """Encode an answer, off the event loop if it is large, or give the one that was encoded before.

    Args:
        encode: makes the body, and headers that go with it.
        found: settled.
        media_type: of the body.
        space: that the vectors live in.
        cache: of responses; None: this one is not kept.
        form: with the media type and the space, all that ``encode`` depends on beside the images.
    """
    digests = tuple(answer.digest for answer in found if isinstance(answer, Answer) and answer.digest is not None)
    known = cache if len(digests) == len(found) else None
    form = (media_type, space, form)
    if known is not None and (kept := known.get(digests, form)) is not None:
        return kept
    begun = time.perf_counter()
    large = sum(answer.value.nbytes for answer in found if isinstance(answer, Answer)) > LARGE_BYTES
    content, headers = await asyncio.to_thread(encode) if large else encode()
    stages.took("encode", time.perf_counter() - begun)
    headers |= {"X-Cache": _cache_header(len(digests), len(found)), SPACE_HEADER: space}
    response = Response(content, media_type=media_type, headers=headers)
    if known is not None:
        known.put(digests, form, response)
    return response


def binary(chosen: Rows, wire: Wire) -> tuple[bytes, dict[str, str]]:
    """An array as ``.npy``, or as raw little-endian numbers with their shape and dtype in headers."""
    array = chosen.filled()
    headers: dict[str, str] = {}
    if chosen.faults:
        named = list(chosen.faults.items())[:MAX_LISTED_FAULTS]
        headers["X-Errors"] = ", ".join(f"{i}={error.code}" for i, error in named)
    if wire == answers.NPY:
        return answers.npy(array), headers
    return array.tobytes(), headers | {"X-Shape": ",".join(map(str, array.shape)), "X-Dtype": _name(array.dtype)}


@cache
def _name(dtype: np.dtype[Any]) -> str:
    """NumPy puts a dtype's name together anew each time."""
    return str(dtype)


def _cache_header(hits: int, images: int) -> str:
    if hits == images:
        return "hit"
    return f"partial; hits={hits}/{images}" if hits else "miss"
