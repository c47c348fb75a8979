"""Responses kept whole, for requests whose images all came out of the cache: nothing of them is encoded anew.

The cache keeps what a model made of an image, and one vector serves all forms; this keeps what was sent, in the form
that was asked for. Images stand in its keys with the digests of the cache's own keys, which hold the bundle's hash.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import TYPE_CHECKING, Final

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
        self._max_bytes = max_bytes
        self._bytes = 0
        self._entries: OrderedDict[tuple[tuple[bytes, ...], Hashable], tuple[Response, int]] = OrderedDict()
        metrics.response_cache_bytes.set_function(lambda: self._bytes)

    def get(self, digests: tuple[bytes, ...], form: Hashable) -> Response | None:
        """The response that has these images in this form."""
        entry = self._entries.get((digests, form))
        if entry is None:
            return None
        self._entries.move_to_end((digests, form))
        return entry[0]

    def put(self, digests: tuple[bytes, ...], form: Hashable, response: Response) -> None:
        """Keep it, forgetting the least recently used ones. Nobody may change it from now on."""
        response.body = bytes(memoryview(response.body))  # JSON is written into a buffer that is larger, and stays so
        size = FIXED_BYTES + DIGEST_BYTES * len(digests) + len(response.body)
        if size > self._max_bytes * MOST or (digests, form) in self._entries:
            return
        self._entries[digests, form] = response, size
        self._bytes += size
        while self._bytes > self._max_bytes:
            _, (_, oldest) = self._entries.popitem(last=False)
            self._bytes -= oldest
