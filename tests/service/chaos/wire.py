"""HTTP by hand, for clients that a library would not let be as rude: slow, lying about lengths, gone half-way."""

from __future__ import annotations

import asyncio
import contextlib
import json
from dataclasses import dataclass, field
from typing import Literal

PATIENCE = 120
"""Seconds after which a request without an answer counts as forgotten."""


@dataclass(frozen=True)
class Message:
    """What is sent, and how.

    Attributes:
        declared: the length in the header; None: the body comes in chunks.
        pause: seconds between single bytes of the body; 0: all at once.
        leaves: when the client hangs up without having the whole answer.
    """

    method: str
    path: str
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b""
    declared: int | None = 0
    pause: float = 0
    leaves: Literal["never", "in its upload", "before the answer", "in the answer"] = "never"


@dataclass(frozen=True)
class Reply:
    """What came back."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def outcome(self) -> str:
        """As the metric calls it: ``ok`` or an error's code."""
        return "ok" if self.status < 400 else json.loads(self.body)["error"]["code"]


async def exchange(port: int, message: Message) -> Reply | None:
    """Send a message; None when the client left, or the server cut the connection before its answer was read."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        async with asyncio.timeout(PATIENCE):
            with contextlib.suppress(ConnectionError):
                return await _exchange(reader, writer, message)
            return None
    finally:
        writer.close()
        with contextlib.suppress(ConnectionError):
            await writer.wait_closed()


async def _exchange(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, message: Message) -> Reply | None:
    length = "Transfer-Encoding: chunked" if message.declared is None else f"Content-Length: {message.declared}"
    lines = [f"{message.method} {message.path} HTTP/1.1", "Host: chaos", "Connection: close", length]
    lines += [f"{name}: {value}" for name, value in message.headers.items()]
    writer.write("\r\n".join([*lines, "", ""]).encode())
    if message.leaves == "in its upload":
        writer.write(message.body[: len(message.body) // 2])
        await writer.drain()
        return None
    answer = asyncio.ensure_future(reader.read(20 if message.leaves == "in the answer" else -1))
    try:
        await _send(writer, message, answer)
        if message.leaves == "before the answer":
            await asyncio.wait({answer}, timeout=0.02)
            return None
        data = await answer
    finally:
        answer.cancel()
    return None if message.leaves == "in the answer" or not data else _parse(data)


async def _send(writer: asyncio.StreamWriter, message: Message, answer: asyncio.Future[bytes]) -> None:
    if message.pause:
        for byte in message.body:
            writer.write(bytes([byte]))
            if (await asyncio.wait({answer}, timeout=message.pause))[0]:
                return
    elif message.declared is None:
        for start in range(0, len(message.body), 8192):
            piece = message.body[start : start + 8192]
            writer.write(b"%x\r\n%b\r\n" % (len(piece), piece))
            await writer.drain()
        writer.write(b"0\r\n\r\n")
    else:
        writer.write(message.body)
    await writer.drain()


def _parse(data: bytes) -> Reply:
    head, _, body = data.partition(b"\r\n\r\n")
    first, *lines = head.decode("latin-1").split("\r\n")
    pairs = (line.partition(":") for line in lines)
    return Reply(int(first.split()[1]), {name.lower(): value.strip() for name, _, value in pairs}, body)
