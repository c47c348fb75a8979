"""Every request ends here once: counted with one outcome, timed, logged in one line, and its trace closed.

The edge calls it. Probes, scrapes, documents and files are logged at the level debug, where they bury nothing.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any, Final, Protocol

from bootleg_service.dialects.envelopes import OPENAI, dialect_of

if TYPE_CHECKING:
    from collections.abc import Mapping

    from prometheus_client import Counter, Histogram

    from bootleg_service.metrics import Metrics
    from bootleg_service.stages import Record, Trace

log = logging.getLogger("bootleg.request")

UNKNOWN: Final = "unknown"
"""The route of a file, and of a path that has none: never the path, which anybody may invent."""
CLIENT_CLOSED: Final = "client_closed"
CLOSED_STATUS: Final = 499
"""Of a request that got no answer, as nginx writes it."""
METHODS: Final = frozenset({"GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS", "PATCH", "CONNECT", "TRACE"})

_QUIET: Final = frozenset({"/metrics", "/docs", "/openapi.json"})
_OF_REQUEST: Final = ("read", "encode")


class Tracing(Protocol):
    """Makes a trace of each request."""

    def begin(self, scope: Mapping[str, Any]) -> Trace:
        """Start the trace of a request, as a part of its caller's if it says so."""

    def end(self, trace: Trace, ending: Mapping[str, Any]) -> None:
        """Close it."""

    def close(self) -> None:
        """Send what is left."""


class Endings:
    """Accounts for requests.

    Args:
        metrics: where they are counted.
        tracing: None: they are not traced.
    """

    def __init__(self, metrics: Metrics, tracing: Tracing | None = None) -> None:
        self._metrics = metrics
        self._tracing = tracing
        self._counters: dict[tuple[str, int, str], Counter] = {}
        self._timers: dict[str, Histogram] = {}
        self._received = metrics.payload.labels("in")
        self._sent = metrics.payload.labels("out")
        self._in_flight = 0
        metrics.in_flight.set_function(lambda: self._in_flight)

    def begin(self, scope: Mapping[str, Any]) -> Trace | None:
        """A request came; its trace, if requests are traced."""
        self._in_flight += 1
        return self._tracing.begin(scope) if self._tracing is not None else None

    def end(self, scope: Mapping[str, Any], record: Record, status: int, outcome: str, seconds: float) -> None:
        """It has ended."""
        self._in_flight -= 1
        route: str = getattr(scope.get("route"), "path", UNKNOWN)
        self._counter(route, status, outcome).inc()
        self._timer(route).observe(seconds)
        for stage in _OF_REQUEST:
            if stage in record.seconds:
                self._metrics.stage[stage].observe(record.seconds[stage])
        if record.received:
            self._received.observe(record.received)
        if record.sent:
            self._sent.observe(record.sent)
        level = _level(route, status)
        logged = log.isEnabledFor(level)
        if not logged and record.trace is None:
            return
        ending = _fields(scope, record, route, status, outcome, seconds)
        if logged:
            log.log(level, "request", extra={"fields": ending})
        if self._tracing is not None and record.trace is not None:
            self._tracing.end(record.trace, ending)

    def _counter(self, route: str, status: int, outcome: str) -> Counter:
        key = (route, status, outcome)
        if key not in self._counters:  # routes, statuses and outcomes are closed sets
            self._counters[key] = self._metrics.requests.labels(route, dialect_name(route), str(status), outcome)
        return self._counters[key]

    def _timer(self, route: str) -> Histogram:
        if route not in self._timers:
            self._timers[route] = self._metrics.request_seconds.labels(route)
        return self._timers[route]


def dialect_name(route: str) -> str:
    """Whose protocol a route speaks: ``native`` for our own."""
    if route == UNKNOWN:
        return UNKNOWN
    dialect = dialect_of(route)
    if dialect is OPENAI and not route.startswith(("/v1/embeddings", "/v1/models")):
        return "native"
    return dialect.name


def _level(route: str, status: int) -> int:
    if status >= 500 and status != 503:
        return logging.WARNING
    probe = route in _QUIET or "/health/" in route or "/.well-known/" in route
    file = route == UNKNOWN and status < 400
    return logging.DEBUG if probe or file else logging.INFO


def _fields(
    scope: Mapping[str, Any], record: Record, route: str, status: int, outcome: str, seconds: float
) -> dict[str, Any]:
    """All that is said of a request. Nothing in it is text of the caller's, but for a request id that was checked."""
    method = scope["method"]
    fields = {
        "request_id": record.request_id,
        "method": method if method in METHODS else "_OTHER",
        "route": route,
        "status": status,
        "outcome": outcome,
        "ms": round(1000 * seconds, 2),
        "images": record.images,
        "bytes_in": record.received,
        "bytes_out": record.sent,
    }
    if record.images:
        fields["cache"] = "hit" if record.hits == record.images else "partial" if record.hits else "miss"
    key = scope["state"].get("key")
    if key is not None:
        fields["client"] = key.name
    if record.trace is not None:
        fields["trace_id"] = record.trace.trace_id
    return fields
