"""Answers kept whole: a request that came before, word for word, is sent what it was sent then.

The cache keeps what a model made of an image; this keeps what a client got for it, so that nothing of it has to be
worked out again. An answer is kept when all of it came out of the cache. It depends on the path, the headers, the body
and the models, which are its key; who asks, from where and how often is looked at for each request, as ever.
"""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from dataclasses import dataclass
from http import HTTPStatus
from typing import TYPE_CHECKING, Final

from bootleg_service import stages
from bootleg_service.admission import charge
from bootleg_service.bodies import peek
from bootleg_service.state import models_of
from bootleg_service.telemetry.images import CACHED

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from prometheus_client import Counter
    from starlette.requests import Request
    from starlette.responses import Response

    from bootleg_service.metrics import Metrics
    from bootleg_service.settings import RequestLimits

    Key = tuple[int, str, tuple[tuple[bytes, bytes], ...], bytes]

MAX_BODY_BYTES: Final = 256 * 2**10
"""A longer body is not looked for: beside its hash, the rest costs little."""
MAX_SHARE: Final = 1 / 64
"""Of the room, for one answer."""
FIXED_BYTES: Final = 2048
"""About what an answer takes besides its body and the headers of its key."""
HEADER_BYTES: Final = 160
"""About what a header of the key takes besides its text."""
NEUTRAL: Final = frozenset(
    b"accept-encoding accept-language authorization connection content-length expect forwarded host keep-alive origin "
    b"referer traceparent tracestate baggage user-agent via x-forwarded-for x-forwarded-host x-forwarded-port "
    b"x-forwarded-proto x-real-ip x-request-id".split()
)
"""Headers that no answer's body or own headers depend on. Any other one is part of the key, known or not."""


@dataclass(frozen=True, slots=True)
class _Kept:
    answer: Response
    images: int
    body_bytes: int
    ended: Counter
    size: int


class Repeats:
    """Least-recently-used whole answers, up to a number of bytes.

    Args:
        max_bytes: of all answers together.
        limits: of requests.
        metrics: where images are counted, as from the cache, and look-ups, one for each request.
    """

    def __init__(self, max_bytes: int, limits: RequestLimits, metrics: Metrics) -> None:
        self._max_bytes, self._metrics = max_bytes, metrics
        self._seconds = limits.receive_seconds
        self._longest = min(MAX_BODY_BYTES, limits.image.max_bytes)  # of what is over a limit nothing is read
        self._bytes = 0
        self._kept: OrderedDict[Key, _Kept] = OrderedDict()
        self._hits, self._misses = metrics.cache.labels("answers", "hit"), metrics.cache.labels("answers", "miss")
        metrics.answers_bytes.set_function(lambda: self._bytes)

    async def answer(self, request: Request, make: Callable[[], Awaitable[Response]]) -> Response:
        """Give the answer that an equal request got, or make it.

        Args:
            request: that may be answered; its body has not been read.
            make: answers it; may read its body.

        Raises:
            ReceiveTimeoutError: nothing of its body arrived in time.
            QuotaError: the quota of its key is spent.
        """
        key = await self._key(request)
        if key is None:
            return await make()
        kept = self._kept.get(key)
        if kept is None:
            self._misses.inc()
            answer = await make()
            self._keep(key, answer)
            return answer
        self._kept.move_to_end(key)
        charge(request, kept.images)
        kept.ended.inc(kept.images)
        self._hits.inc()
        stages.repeated(kept.images, kept.body_bytes)
        return kept.answer

    async def _key(self, request: Request) -> Key | None:
        """All that the answer depends on; None if the body is long, or did not come in one piece."""
        length = request.headers.get("content-length", "")
        if not (length.isascii() and length.isdigit() and int(length) <= self._longest):
            return None
        body = (await peek(request, self._seconds)).get("body", b"")
        if len(body) != int(length):
            return None
        telling = tuple(header for header in request.scope["headers"] if header[0] not in NEUTRAL)
        return models_of(request).generation, request.scope["path"], telling, hashlib.sha256(body).digest()

    def _keep(self, key: Key, answer: Response) -> None:
        """Keep the answer to the request at hand, if all its images came out of the cache."""
        record = stages.current()
        if record is None or not record.images or record.hits != record.images or answer.status_code != HTTPStatus.OK:
            return
        _, _, headers, _ = key
        size = FIXED_BYTES + len(answer.body) + sum(HEADER_BYTES + len(name) + len(value) for name, value in headers)
        if size > self._max_bytes * MAX_SHARE or key in self._kept:
            return
        ended = self._metrics.images.labels(record.task, CACHED)
        self._kept[key] = _Kept(answer, record.images, record.received, ended, size)
        self._bytes += size
        while self._bytes > self._max_bytes:
            _, oldest = self._kept.popitem(last=False)
            self._bytes -= oldest.size
