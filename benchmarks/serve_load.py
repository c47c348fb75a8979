"""The client of the serving benchmark: requests made beforehand, sent over kept connections, timed.

It speaks just enough HTTP/1.1 to cost little beside the service, whose cores it shares, and counts what it costs.
:mod:`benchmarks.serve` says what is sent where.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import uvloop

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Coroutine, Sequence

    from numpy.typing import NDArray

BOUNDARY = b"benchmark"
HOST = "127.0.0.1"
OK = 200
OPEN_CONNECTIONS = 200
"""Of an open loop. Where they are all taken, a request waits, and the wait counts."""


@dataclass
class Load:
    """What came of it.

    Attributes:
        seconds: from the first request to the last answer.
        latencies: of each request, in seconds; of an open loop, from the moment it should have been sent.
        client_seconds: CPU time of the client.
    """

    seconds: float = 0.0
    latencies: list[float] = field(default_factory=list)
    client_seconds: float = 0.0


class Connection(asyncio.Protocol):
    """One request at a time."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the transport."""
        self._transport = transport
        self._received = bytearray()
        self._end = 0
        self._answer: asyncio.Future[int] | None = None

    def data_received(self, data: bytes) -> None:
        """Collect an answer."""
        self._received += data
        if not self._end:
            head = self._received.find(b"\r\n\r\n")
            if head < 0:
                return
            lines = bytes(self._received[:head]).lower()
            length = lines[lines.index(b"\ncontent-length:") + 16 :].partition(b"\r\n")[0]
            self._end = head + 4 + int(length)
        if len(self._received) < self._end or self._answer is None:
            return
        self._answer.set_result(int(self._received[9:12]))
        self._received.clear()
        self._end = 0

    def connection_lost(self, error: Exception | None) -> None:
        """Fail what waits."""
        if self._answer is not None and not self._answer.done():
            self._answer.set_exception(error or ConnectionError("the service closed the connection"))

    async def ask(self, request: bytes) -> int:
        """Send one request and wait for its answer's status."""
        self._answer = asyncio.get_running_loop().create_future()
        self._transport.write(request)
        return await self._answer

    @property
    def closed(self) -> bool:
        """Whether either side has hung up: the service does, on a connection that is idle for seconds."""
        return self._transport.is_closing()

    def close(self) -> None:
        """Hang up."""
        self._transport.close()


def closed_loop(port: int, requests: Sequence[bytes], clients: int) -> Load:
    """Each client sends its next request when the last is answered."""

    async def run(load: Load) -> None:
        waiting = iter(requests)

        async def client(connection: Connection) -> None:
            for request in waiting:
                begun = time.perf_counter()
                _check(await connection.ask(request))
                load.latencies.append(time.perf_counter() - begun)

        async with connected(port, clients) as connections:
            begun = time.perf_counter()
            await asyncio.gather(*map(client, connections))
            load.seconds = time.perf_counter() - begun

    return _measured(run)


def open_loop(port: int, requests: Sequence[bytes], rate: float, seed: int = 0) -> Load:
    """Requests arrive at random moments, ``rate`` a second, whether or not earlier ones are answered."""
    arrivals = np.random.default_rng(seed).exponential(1 / rate, len(requests)).cumsum()

    async def run(load: Load) -> None:
        async with connected(port, OPEN_CONNECTIONS) as connections:
            idle: asyncio.LifoQueue[Connection] = asyncio.LifoQueue()
            for connection in connections:
                idle.put_nowait(connection)

            async def one(request: bytes, due: float) -> None:
                connection = await idle.get()
                if connection.closed:
                    connection = await _connect(port)
                _check(await connection.ask(request))
                load.latencies.append(time.perf_counter() - due)
                idle.put_nowait(connection)

            begun = time.perf_counter()
            tasks = []
            for request, arrival in zip(requests, arrivals, strict=True):
                due = begun + arrival
                if (wait := due - time.perf_counter()) > 0:
                    await asyncio.sleep(wait)
                tasks.append(asyncio.create_task(one(request, due)))
            await asyncio.gather(*tasks)
            load.seconds = time.perf_counter() - begun

    return _measured(run)


def image_request(images: Sequence[bytes], media_type: str = "image/jpeg") -> bytes:
    """One image as the raw body, or several as a form; vectors come back as raw numbers."""
    if len(images) == 1:
        return _request("/v1/images/embeddings", images[0], media_type.encode())
    part = b'--%s\r\nContent-Disposition: form-data; name="images"; filename="a.jpg"\r\n\r\n%s\r\n'
    body = b"".join(part % (BOUNDARY, image) for image in images) + b"--%s--\r\n" % BOUNDARY
    return _request("/v1/images/embeddings", body, b"multipart/form-data; boundary=" + BOUNDARY)


def tensor_request(model: str, pixels: NDArray[np.uint8]) -> bytes:
    """Ready pixels ``[n, H, W, 3]`` by the Open Inference Protocol, binary both ways."""
    tensor = {"name": "pixels", "shape": pixels.shape, "datatype": "UINT8"}
    output = {"name": "embedding", "parameters": {"binary_data": True}}
    asked = {"inputs": [{**tensor, "parameters": {"binary_data_size": pixels.nbytes}}], "outputs": [output]}
    head = json.dumps(asked).encode()
    extra = b"Inference-Header-Content-Length: %d\r\n" % len(head)
    return _request(f"/v2/models/{model}/infer", head + pixels.tobytes(), b"application/octet-stream", extra)


def _request(path: str, body: bytes, media_type: bytes, extra: bytes = b"") -> bytes:
    head = b"POST %s HTTP/1.1\r\nHost: x\r\nAccept: application/octet-stream\r\n" % path.encode()
    return b"%sContent-Type: %s\r\nContent-Length: %d\r\n%s\r\n%s" % (head, media_type, len(body), extra, body)


def _check(status: int) -> None:
    if status != OK:
        raise RuntimeError(f"the service answered {status}")


def _measured(run: Callable[[Load], Coroutine[Any, Any, None]]) -> Load:
    load = Load()
    before = time.process_time()
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(run(load))
    load.client_seconds = time.process_time() - before
    return load


async def _connect(port: int) -> Connection:
    return (await asyncio.get_running_loop().create_connection(Connection, HOST, port))[1]


@contextlib.asynccontextmanager
async def connected(port: int, count: int) -> AsyncIterator[list[Connection]]:
    """So many connections."""
    opened = [await _connect(port) for _ in range(count)]
    try:
        yield opened
    finally:
        for connection in opened:
            connection.close()
        await asyncio.sleep(0)
