"""The processes that the serving benchmark starts: the service, and what it is measured against."""

from __future__ import annotations

import contextlib
import os
import re
import socket
import subprocess
import sys
import time
import urllib.request
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks.serve_load import HOST

if TYPE_CHECKING:
    from collections.abc import Iterator

STAND_INS = ("-m", "benchmarks.serve_stand_ins")
START_SECONDS = 120


@dataclass
class Server:
    """A process that answers on a port of this machine."""

    port: int
    process: subprocess.Popen[bytes]

    @property
    def cpu_seconds(self) -> float:
        """Processor time it has used."""
        times = Path(f"/proc/{self.process.pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split()
        return (int(times[11]) + int(times[12])) / os.sysconf("SC_CLK_TCK")

    @property
    def rss_mb(self) -> float:
        """Memory it has resident, in MB."""
        pages = int(Path(f"/proc/{self.process.pid}/statm").read_text(encoding="ascii").split()[1])
        return pages * os.sysconf("SC_PAGE_SIZE") / 1e6

    def batches(self) -> tuple[float, float]:
        """Forward passes so far, and the images in them."""
        text = _read(f"http://{HOST}:{self.port}/metrics").decode()
        found = {"count": 0.0, "sum": 0.0}
        for name, value in re.findall(r"^bootleg_batch_size_(count|sum)(?:\{.*\})? (\S+)$", text, re.MULTILINE):
            found[name] += float(value)
        return found["count"], found["sum"]


@contextlib.contextmanager
def serving(*arguments: str) -> Iterator[Server]:
    """Run Python with ``arguments``, ``PORT`` among them replaced, until the port answers; stop it at the end."""
    with socket.socket() as free:
        free.bind((HOST, 0))
        port = free.getsockname()[1]
    command = [sys.executable, *(str(port) if argument == "PORT" else argument for argument in arguments)]
    process = subprocess.Popen(command)
    try:
        _wait(process, port)
        yield Server(port, process)
    finally:
        process.terminate()
        process.wait()


@contextlib.contextmanager
def service(bundle: Path, *options: str) -> Iterator[Server]:
    """The service, with its defaults but for more patience: 64 clients wait seconds for a large model."""
    patience = ("--request-seconds", "120", "--log-level", "warning")
    with serving(
        "-m", "bootleg_cli", "serve", "--port", "PORT", "--bundle", str(bundle), *patience, *options
    ) as server:
        yield server


def _wait(process: subprocess.Popen[bytes], port: int) -> None:
    end = time.monotonic() + START_SECONDS
    while time.monotonic() < end:
        if process.poll() is not None:
            raise RuntimeError(f"the server ended with {process.returncode}")
        with contextlib.suppress(OSError):
            _read(f"http://{HOST}:{port}/health/ready")
            return
        time.sleep(0.1)
    raise TimeoutError("the server did not become ready")


def _read(url: str) -> bytes:
    with urllib.request.urlopen(url, timeout=30) as answer:
        found: bytes = answer.read()
    return found
