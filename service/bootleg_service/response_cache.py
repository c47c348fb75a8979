"""Responses kept whole, for requests whose images all came out of the cache: nothing of them is encoded anew.

The cache keeps what a model made of an image, and one vector serves all forms; this keeps what was sent, in the form
that was asked for. Images stand in its keys with the digests of the cache's own keys, which hold the bundle's hash.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from bootleg_service.lru import LRU

if TYPE_CHECKING:
    from collections.abc import Hashable

    from starlette.responses import Response

    from bootleg_service.metrics import Metrics

FIXED_BYTES: Final = 2048
"""About what a response takes besides its body, with the key of a few images."""
DIGEST_BYTES: Final = 96
"""About what each image of its key takes."""
MOST: Final = 1 / 64
"""Of the room, for one response."""


class ResponseCache:
    """Least-recently-used responses, up to a number of bytes.

    Args:
        max_bytes: of all of them; 0: none is kept.
        metrics: that publish how many bytes they are.
    """

    def __init__(self, max_bytes: int, metrics: Metrics) -> None:
        self._longest = max_bytes * MOST
        self._responses: LRU[tuple[tuple[bytes, ...], Hashable], Response] = LRU(max_bytes)
        metrics.response_cache_bytes.set_function(lambda: self._responses.bytes)

    def get(self, digests: tuple[bytes, ...], form: Hashable) -> Response | None:
        """The response that has these images in this form."""
        return self._responses.get((digests, form))

    def put(self, digests: tuple[bytes, ...], form: Hashable, response: Response) -> None:
        """Keep it, forgetting the least recently used ones. Nobody may change it from now on."""
        size = FIXED_BYTES + DIGEST_BYTES * len(digests) + len(response.body)
        if size <= self._longest and (digests, form) not in self._responses:
            response.body = bytes(memoryview(response.body))  # JSON's buffer is larger, and would stay so
            self._responses.put((digests, form), response, size)
