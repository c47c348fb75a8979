"""uvicorn's HTTP protocol with what it lacks: absolute deadlines for headers and bodies, and bounds on both.

uvicorn waits for ever for a request's headers, however slowly they come, and never bounds them. :func:`guarded` gives
the class that ``uvicorn.run(http=...)`` takes. Where the application reads a body it answers a slow one with 408
itself; here ends, a little later, what nobody reads. Tested with uvicorn 0.54.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar, Final, Literal

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from bootleg_service.answers import JSON, to_json
from bootleg_service.dialects.envelopes import Fault, dialect_of

if TYPE_CHECKING:
    import asyncio

    from starlette.types import Receive, Scope, Send

    from bootleg_service.metrics import Metrics
    from bootleg_service.settings import RequestLimits

Phase = Literal["headers", "body"]
Reason = Literal["slow_headers", "slow_body", "large_headers"]

GRACE_SECONDS: Final = 1.0
"""More than the application gives a body, so that its own answer comes first."""


class GuardedProtocol(HttpToolsProtocol):
    """One connection."""

    limits: ClassVar[RequestLimits]
    metrics: ClassVar[Metrics]

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Begin to wait for a request; answer it with 503 when there are too many connections."""
        super().connection_made(transport)
        self._begun = self._headed = False
        self._header_bytes = 0
        self._timer: asyncio.TimerHandle | None = None
        self._phase: Phase | None = None
        if len(self.connections) > self.limits.max_connections:
            self.app = self._crowded
        self._wait_for("headers")

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget the deadline."""
        self._wait_for(None)
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Feed the parser, and set the deadline for what is still to come."""
        if not self._headed:
            self._header_bytes += len(data)
        super().data_received(data)
        if self.transport.is_closing():
            return
        if self._begun:
            if not self._headed and self._header_bytes > self.limits.max_header_bytes:
                self._end("large_headers", 431, f"the headers have over {self.limits.max_header_bytes:,} bytes")
                return
            self._wait_for("body" if self._headed else "headers")
        else:  # bytes between requests begin nothing, but end uvicorn's own wait for the next
            self._wait_for("headers" if self.cycle is None or self.cycle.response_complete else None)

    def on_message_begin(self) -> None:
        """A request begins."""
        super().on_message_begin()
        self._begun, self._headed = True, False

    def on_headers_complete(self) -> None:
        """Its headers are there."""
        self._headed = True
        super().on_headers_complete()

    def on_message_complete(self) -> None:
        """Its body is there."""
        super().on_message_complete()
        self._begun = self._headed = False
        self._header_bytes = 0

    def _wait_for(self, phase: Phase | None) -> None:
        if phase == self._phase:
            return
        self._phase = phase
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if phase is not None:
            limits = self.limits
            seconds = limits.header_seconds if phase == "headers" else limits.receive_seconds + GRACE_SECONDS
            self._timer = self.loop.call_later(seconds, self._expired, phase)

    def _expired(self, phase: Phase) -> None:
        self._phase = self._timer = None
        if self.transport.is_closing():
            return
        if self.flow.read_paused:  # we are the slow ones: a request before this one is not answered yet
            self._wait_for(phase)
        elif phase == "headers":
            self._end("slow_headers", 408, f"the headers did not arrive within {self.limits.header_seconds:g} s")
        else:
            self._end("slow_body")

    def _end(self, reason: Reason, status: int | None = None, message: str = "") -> None:
        """Close the connection, after an answer if there is one to give."""
        self.metrics.connections_closed.labels(reason).inc()
        answering = self.cycle is not None and not self.cycle.response_complete
        if status is not None and self._begun and not answering:
            code = "receive_timeout" if status == 408 else "headers_too_large"
            body = to_json(dialect_of("").render(Fault(status, code, message, "")))
            phrase = {408: "Request Timeout", 431: "Request Header Fields Too Large"}[status]
            head = f"HTTP/1.1 {status} {phrase}\r\ncontent-type: {JSON}\r\ncontent-length: {len(body)}\r\n"
            self.transport.write(f"{head}connection: close\r\n\r\n".encode() + body)
        self.transport.close()

    async def _crowded(self, scope: Scope, _receive: Receive, send: Send) -> None:
        """In the place of the application, for a connection too many."""
        message = f"the server has {self.limits.max_connections:,} connections, which is the limit"
        body = to_json(dialect_of(scope["path"]).render(Fault(503, "overloaded", message, "")))
        self.metrics.connections_closed.labels("too_many").inc()
        headers = [(b"content-type", JSON.encode()), (b"retry-after", b"1"), (b"connection", b"close")]
        headers.append((b"content-length", str(len(body)).encode()))
        await send({"type": "http.response.start", "status": 503, "headers": headers})
        await send({"type": "http.response.body", "body": body})


def guarded(limits: RequestLimits, metrics: Metrics) -> type[GuardedProtocol]:
    """The protocol class under some limits."""
    attributes: dict[str, Any] = {"limits": limits, "metrics": metrics}
    return type("GuardedProtocol", (GuardedProtocol,), attributes)
