"""uvicorn's HTTP protocol with what it lacks: deadlines for headers, bodies and whoever reads an answer, and bounds.

uvicorn waits for ever for headers and for the reader of an answer, however slow, never bounds headers or trailers, and
loses the body of a request that offers another protocol. :func:`guarded` gives the class that ``uvicorn.run(http=...)``
takes. Where the application reads a body it answers a slow one with 408 itself; here ends, a little later, what nobody
reads. Tested with uvicorn 0.54.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar, Final, Literal

import httptools
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from bootleg_service.answers import JSON, to_json
from bootleg_service.dialects.envelopes import Fault, dialect_of

if TYPE_CHECKING:
    import asyncio

    from starlette.types import Receive, Scope, Send

    from bootleg_service.metrics import Metrics
    from bootleg_service.settings import RequestLimits

Phase = Literal["headers", "body"]
Reason = Literal["slow_headers", "slow_body", "slow_reader", "large_headers"]

GRACE_SECONDS: Final = 1.0
"""More than the application gives a body, so that its own answer comes first."""
READ_BYTES: Final = 64 * 2**10
"""Of an answer that waits to be read, so much or half of it must go within the time that a body has to come."""


class GuardedProtocol(HttpToolsProtocol):
    """One connection."""

    limits: ClassVar[RequestLimits]
    metrics: ClassVar[Metrics]

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Begin to wait for a request; answer it with 503 when there are too many connections."""
        super().connection_made(transport)
        self._begun = self._headed = False
        self._loose_bytes = 0  # of headers that are not complete, or of what is between the pieces of a body
        self._timer: asyncio.TimerHandle | None = None
        self._reader_timer: asyncio.TimerHandle | None = None
        self._phase: Phase | None = None
        if len(self.connections) > self.limits.max_connections:
            self.app = self._crowded
        self._wait_for("headers")

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget the deadlines."""
        self._wait_for(None)
        self._forget_reader()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Feed the parser, and set the deadline for what is still to come."""
        most = self.limits.max_header_bytes
        while data and not self.transport.is_closing():
            # No further than the bound, so that headers over it are not taken because they came in one piece.
            piece, data = data[: most + 1 - self._loose_bytes], data[most + 1 - self._loose_bytes :]
            self._loose_bytes += len(piece)
            self._feed(piece)
            if not self._begun:
                self._loose_bytes = 0  # line ends before a request are no part of it
            elif self._loose_bytes > most and not self.transport.is_closing():
                self._end("large_headers", 431, f"the headers have over {most:,} bytes")
        if self.transport.is_closing():
            return
        if self._begun:
            self._wait_for("body" if self._headed else "headers")
        else:  # bytes between requests begin nothing, but end uvicorn's own wait for the next
            self._wait_for("headers" if self.cycle is None or self.cycle.response_complete else None)

    def on_message_begin(self) -> None:
        """A request begins."""
        super().on_message_begin()
        self._begun, self._headed = True, False

    def on_header(self, name: bytes, value: bytes) -> None:
        """One of its headers; trailers are passed over, as they would be taken for headers."""
        if not self._headed:
            super().on_header(name, value)

    def on_headers_complete(self) -> None:
        """Its headers are there."""
        if self._offers_upgrade:
            return  # it is fed again without the offer
        self._headed = True
        self._loose_bytes = 0
        super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        """A piece of its body is there."""
        self._loose_bytes = 0
        super().on_body(body)

    def on_message_complete(self) -> None:
        """Its body is there."""
        if self._offers_upgrade and not self._headed:
            return
        super().on_message_complete()
        self._begun = self._headed = False
        self._loose_bytes = 0

    def pause_writing(self) -> None:
        """An answer waits for its reader."""
        super().pause_writing()
        self._watch_reader(self.transport.get_write_buffer_size())

    def resume_writing(self) -> None:
        """It has been read, but for a little."""
        super().resume_writing()
        self._forget_reader()

    @property
    def _offers_upgrade(self) -> bool:
        """Whether the request would also be content with another protocol, as Java's client is with HTTP/2."""
        return self.parser.should_upgrade() and self.parser.get_method() != b"CONNECT"

    def _feed(self, data: bytes) -> None:
        self._unset_keepalive_if_required()
        try:
            self.parser.feed_data(data)
        except httptools.HttpParserUpgrade as offer:
            if self._offers_upgrade:
                self._feed_without_offer(data[offer.args[0] :])
        except httptools.HttpParserError:
            self.logger.warning("Invalid HTTP request received.")
            self.send_400_response("Invalid HTTP request received.")

    def _feed_without_offer(self, rest: bytes) -> None:
        """The parser takes all that follows an offer for the other protocol: let another one read it without."""
        version = self.parser.get_http_version().encode()
        head = [self.parser.get_method(), b" ", self.url, b" HTTP/", version, b"\r\n"]
        for name, value in self.headers:
            if name != b"upgrade":
                head += [name, b": ", value, b"\r\n"]
        self.parser = httptools.HttpRequestParser(self)
        self.parser.set_dangerous_leniencies(lenient_data_after_close=True)  # as uvicorn's own
        self._feed(b"".join([*head, b"\r\n", rest]))

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

    def _watch_reader(self, left: int) -> None:
        self._forget_reader()
        self._reader_timer = self.loop.call_later(self.limits.receive_seconds, self._check_reader, left)

    def _forget_reader(self) -> None:
        if self._reader_timer is not None:
            self._reader_timer.cancel()
            self._reader_timer = None

    def _check_reader(self, before: int) -> None:
        left = self.transport.get_write_buffer_size()
        if before - left >= min(READ_BYTES, before // 2):
            self._watch_reader(left)
            return
        self.metrics.connections_closed.labels("slow_reader").inc()
        self.transport.abort()  # closing would wait for the reader

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
