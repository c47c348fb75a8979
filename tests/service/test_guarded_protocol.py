"""Deadlines and bounds of a connection, on a real socket."""

import asyncio
import contextlib
import time

import pytest
import uvicorn
from starlette.responses import Response
from starlette.routing import Route

from bootleg_service.app import create_app
from bootleg_service.guarded_protocol import guarded

from .fake_engine import FakeEngine, fake_bundle
from .pictures import shade
from .serving import EMBEDDINGS, eventually, settings

pytestmark = pytest.mark.anyio

SECONDS = 0.4
REQUEST = (
    f"POST {EMBEDDINGS} HTTP/1.1\r\nHost: test\r\nX-Filler: {'x' * 400}\r\nContent-Length: {len(shade(1))}\r\n\r\n"
).encode() + shade(1)


class Server:
    """An application behind the protocol, on this event loop."""

    def __init__(self, app, engine, port, connections):
        self.app, self.engine, self.port, self.connections = app, engine, port, connections

    def sample(self, name, **labels):
        return self.app.state.metrics.registry.get_sample_value(name, labels) or 0

    def connect(self):
        return asyncio.open_connection("127.0.0.1", self.port)


@contextlib.asynccontextmanager
async def listening(**limits):
    bounds = {"header_seconds": SECONDS, "receive_seconds": 30.0} | limits
    chosen = settings(**{f"limits__{name}": value for name, value in bounds.items()})
    engine = FakeEngine()
    app = create_app(fake_bundle(), chosen, open_model=lambda *_: engine)
    protocol = guarded(chosen.limits, app.state.metrics)
    config = uvicorn.Config(app, host="127.0.0.1", port=0, http=protocol, ws="none", log_level="warning")
    server = uvicorn.Server(config)
    server.install_signal_handlers = lambda: None
    task = asyncio.create_task(server._serve())
    await eventually(lambda: server.started)
    try:
        port = server.servers[0].sockets[0].getsockname()[1]
        yield Server(app, engine, port, server.server_state.connections)
    finally:
        engine.release()
        server.should_exit = True
        await task


async def answer_to(reader):
    """Everything until the server closes the connection; it resets it when we go on sending."""
    answer = b""
    async with asyncio.timeout(30):
        with contextlib.suppress(ConnectionResetError):
            while piece := await reader.read(65536):
                answer += piece
    return answer


async def drip(writer, data, pause=0.02):
    """One byte after another until the other side has had enough."""
    with contextlib.suppress(OSError):
        for i in range(len(data)):
            writer.write(data[i : i + 1])
            await writer.drain()
            await asyncio.sleep(pause)


async def test_headers_that_come_byte_by_byte_are_ended_at_their_deadline():
    async with listening() as server:
        reader, writer = await server.connect()
        dripping = asyncio.create_task(drip(writer, REQUEST))
        answer = await answer_to(reader)
        assert not dripping.done(), "there was more to come"
        dripping.cancel()
        writer.close()
        assert answer.startswith(b"HTTP/1.1 408 Request Timeout\r\n")
        assert b'"code":"receive_timeout"' in answer
        assert b"0.4 s" in answer
        assert server.sample("bootleg_connections_closed_total", reason="slow_headers") == 1
        assert server.engine.numbers == []


async def test_a_body_that_comes_byte_by_byte_is_ended_at_its_deadline_by_the_application():
    async with listening(receive_seconds=0.5, header_seconds=30.0) as server:
        reader, writer = await server.connect()
        head, _, body = REQUEST.partition(b"\r\n\r\n")
        writer.write(head + b"\r\n\r\n")
        dripping = asyncio.create_task(drip(writer, body * 100))
        answer = await answer_to(reader)
        dripping.cancel()
        writer.close()
        assert answer.startswith(b"HTTP/1.1 408 ")
        assert b"the body did not arrive within 0.5 s" in answer
        labels = {"route": EMBEDDINGS, "dialect": "native", "status": "408", "outcome": "receive_timeout"}
        assert server.sample("bootleg_requests_total", **labels) == 1


async def test_a_body_that_nobody_reads_does_not_hold_the_connection():
    """A route without a body answers at once; uvicorn alone would then read on for ever."""
    async with listening(receive_seconds=0.2) as server:
        reader, writer = await server.connect()
        writer.write(b"GET /health/live HTTP/1.1\r\nHost: test\r\nContent-Length: 100000\r\n\r\n")
        dripping = asyncio.create_task(drip(writer, bytes(100_000)))
        answer = await answer_to(reader)
        assert not dripping.done()
        dripping.cancel()
        writer.close()
        assert answer.startswith(b"HTTP/1.1 200 ")
        assert server.sample("bootleg_connections_closed_total", reason="slow_body") == 1


@pytest.mark.parametrize("sent", [b"", b"\r\n"])
async def test_a_connection_that_asks_nothing_is_closed(sent):
    async with listening() as server:
        reader, writer = await server.connect()
        dripping = asyncio.create_task(drip(writer, sent * 2000))
        assert await answer_to(reader) == b""
        dripping.cancel()
        writer.close()


async def test_a_second_request_on_a_connection_has_a_deadline_of_its_own():
    async with listening() as server:
        reader, writer = await server.connect()
        writer.write(REQUEST)
        assert (await reader.readuntil(b"\r\n")).startswith(b"HTTP/1.1 200 ")
        begun = time.monotonic()
        dripping = asyncio.create_task(drip(writer, REQUEST))
        rest = await answer_to(reader)
        assert time.monotonic() - begun >= SECONDS
        assert not dripping.done()
        dripping.cancel()
        writer.close()
        assert b"HTTP/1.1 408 " in rest


async def test_requests_within_their_deadlines_are_answered_on_one_connection_though_the_model_is_slower():
    async with listening(header_seconds=0.2, receive_seconds=0.2) as server:
        server.engine.hold()
        reader, writer = await server.connect()
        writer.write(REQUEST + REQUEST)  # the second waits in the connection, through no fault of its sender
        await asyncio.sleep(2.0)
        server.engine.release()
        for _ in range(2):
            assert (await reader.readuntil(b"\r\n")).startswith(b"HTTP/1.1 200 ")
            head = await reader.readuntil(b"\r\n\r\n")
            length = next(line for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:"))
            await reader.readexactly(int(length.partition(b":")[2]))
        writer.close()
        assert (
            sum(server.sample("bootleg_connections_closed_total", reason=r) for r in ("slow_body", "slow_headers")) == 0
        )


async def test_headers_over_their_bound_are_431():
    async with listening(max_header_bytes=10_000, header_seconds=30.0) as server:
        reader, writer = await server.connect()
        writer.write(b"GET / HTTP/1.1\r\nX-Much: " + b"x" * 20_000)
        answer = await answer_to(reader)
        writer.close()
        assert answer.startswith(b"HTTP/1.1 431 ")
        assert b"10,000 bytes" in answer
        assert server.sample("bootleg_connections_closed_total", reason="large_headers") == 1


async def test_headers_over_their_bound_are_431_though_they_come_whole_and_in_one_piece():
    async with listening(max_header_bytes=10_000, header_seconds=30.0) as server:
        reader, writer = await server.connect()
        writer.write(b"GET /health/live HTTP/1.1\r\nHost: test\r\nX-Much: " + b"x" * 20_000 + b"\r\n\r\n")
        answer = await answer_to(reader)
        writer.close()
        assert answer.startswith(b"HTTP/1.1 431 ")
        assert server.sample("bootleg_connections_closed_total", reason="large_headers") == 1


def chunked(trailers):
    head = f"POST {EMBEDDINGS} HTTP/1.1\r\nHost: test\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n"
    return b"%s%x\r\n%s\r\n0\r\n%s" % (head.encode(), len(shade(1)), shade(1), trailers)


async def test_a_trailer_is_not_taken_for_a_header():
    async with listening() as server:
        reader, writer = await server.connect()
        writer.write(chunked(b"X-Priority: nonsense\r\nX-Request-Timeout-Ms: 0\r\n\r\n"))
        answer = await answer_to(reader)
        writer.close()
        assert answer.startswith(b"HTTP/1.1 200 ")


async def test_trailers_without_end_end_the_connection():
    async with listening(max_header_bytes=10_000) as server:
        reader, writer = await server.connect()
        writer.write(chunked(b"X-More: trailers\r\n" * 5_000))
        await answer_to(reader)
        writer.close()
        assert server.sample("bootleg_connections_closed_total", reason="large_headers") == 1
        assert server.engine.numbers == []


async def test_pieces_of_a_body_may_be_small_though_what_is_between_them_is_bounded():
    async with listening(max_header_bytes=300) as server:
        reader, writer = await server.connect()
        head = f"POST {EMBEDDINGS} HTTP/1.1\r\nHost: test\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n"
        pieces = b"".join(b"1\r\n%c\r\n" % byte for byte in shade(1))
        writer.write(head.encode() + pieces + b"0\r\n\r\n")
        assert (await answer_to(reader)).startswith(b"HTTP/1.1 200 ")
        writer.close()


OFFERS = ("h2c", "websocket")


@pytest.mark.parametrize("size", [10, 100_000])
@pytest.mark.parametrize("other", OFFERS)
async def test_a_request_that_offers_another_protocol_is_answered_in_this_one_with_its_body(other, size):
    """As Java's client and `curl --http2` do; twice, as what follows is no other protocol either."""
    offer = f"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: {other}\r\nHTTP2-Settings: AAMAAABkAAQ\r\n"
    request = REQUEST.replace(b"X-Filler", offer.encode() + b"X-Filler")
    async with listening() as server:
        reader, writer = await server.connect()
        writer.write(REQUEST[:-1])
        sent = REQUEST[-1:] + request + request.replace(b"Upgrade, HTTP2-Settings", b"Upgrade, close")
        for at in range(0, len(sent), size):
            writer.write(sent[at : at + size])
            await writer.drain()
            await asyncio.sleep(0)
        answer = await answer_to(reader)
        writer.close()
        assert answer.count(b"HTTP/1.1 200 ") == 3


async def test_an_answer_that_nobody_reads_is_given_up():
    async with listening(receive_seconds=0.3) as server:

        async def large(_request):
            return Response(bytes(32 * 2**20))

        server.app.router.routes.insert(0, Route("/large", large))
        _reader, writer = await server.connect()
        writer.transport.pause_reading()
        writer.write(b"GET /large HTTP/1.1\r\nHost: test\r\n\r\n")
        await eventually(lambda: server.sample("bootleg_connections_closed_total", reason="slow_reader") == 1)
        await eventually(lambda: not server.connections)
        writer.close()


async def test_an_answer_that_is_read_slowly_but_steadily_is_sent_whole():
    async with listening(receive_seconds=0.3) as server:

        async def large(_request):
            return Response(bytes(16 * 2**20))

        server.app.router.routes.insert(0, Route("/large", large))
        reader, writer = await server.connect()
        writer.write(b"GET /large HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n")
        read = 0
        while piece := await reader.read(512 * 2**10):
            read += len(piece)
            await asyncio.sleep(0.02)
        writer.close()
        assert read > 16 * 2**20
        assert server.sample("bootleg_connections_closed_total", reason="slow_reader") == 0


async def test_a_connection_too_many_is_told_to_come_back_and_the_others_are_served():
    async with listening(max_connections=2, header_seconds=30.0) as server:
        kept = [await server.connect() for _ in range(2)]
        reader, writer = await server.connect()
        writer.write(REQUEST)
        answer = await answer_to(reader)
        writer.close()
        assert answer.startswith(b"HTTP/1.1 503 ")
        assert b"retry-after: 1\r\n" in answer
        assert b'"code":"overloaded"' in answer
        assert server.sample("bootleg_connections_closed_total", reason="too_many") == 1
        assert server.engine.numbers == []
        for reader, writer in kept:
            writer.write(REQUEST)
            assert (await reader.readuntil(b"\r\n")).startswith(b"HTTP/1.1 200 ")
            writer.close()
