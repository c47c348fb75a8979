"""The storm: thousands of mixed requests at a real server whose model fails and whose Redis comes and goes.

What it proves is in :class:`Report`; the suite runs a short one, ``python -m benchmarks.chaos`` a long one.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import json
import random
import re
import subprocess
import sys
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from prometheus_client.parser import text_string_to_metric_families

from tests.service.chaos.faulty import CALM
from tests.service.chaos.requests import AUTHORISED, KEY, STRAINED, Shot, draw, picture, post, vectors_are
from tests.service.chaos.server import PENDING
from tests.service.chaos.wire import Message, Reply, exchange
from tests.service.redis_server import RedisServer, free_port
from tests.service.serving import EMBEDDINGS

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

ROOT = Path(__file__).parents[3]
OURS = ("/metrics", "/health/ready", PENDING)
"""Routes that the storm itself asks to look at the service; not counted."""


@dataclass
class Report:
    """What the storm came to.

    Attributes:
        sent: requests.
        seen: outcomes that clients read in answers.
        unseen: requests whose answer no client read: who left, or was cut off.
        counted: outcomes in the metric.
        faults: whatever was not right, in words.
        deeds: what happened to Redis.
        idle: gauges and pending work before, and ``after``.
        memory_warm: resident MiB after a fifth of the requests, and ``memory_end``.
        exit_code: of the server, after SIGTERM.
        log: what the server wrote.
    """

    sent: int = 0
    seen: Counter[str] = field(default_factory=Counter)
    unseen: int = 0
    counted: Counter[str] = field(default_factory=Counter)
    faults: list[str] = field(default_factory=list)
    deeds: Counter[str] = field(default_factory=Counter)
    idle: dict[str, object] = field(default_factory=dict)
    after: dict[str, object] = field(default_factory=dict)
    memory_warm: float = 0.0
    memory_end: float = 0.0
    exit_code: int | None = None
    log: str = ""


async def storm(folder: Path, requests: int, *, seed: int = 0, clients: int = 24) -> Report:
    """Run it.

    Args:
        folder: for the server's log and keys, and Redis.
        requests: how many.
        seed: of requests, faults and Redis's fate.
        clients: at once.
    """
    redis = RedisServer(folder)
    redis.start()
    report = Report(sent=requests)
    try:
        with _server(folder, redis.url, seed, report) as (process, port):
            await _ready(port)
            report.idle = await _pending(port)
            async with _weather(redis, random.Random(seed + 1), report.deeds):
                await _rain(port, requests, random.Random(seed), clients, report, process.pid)
            await _settle(port, report)
            await _plain(port, report)
            report.memory_end = _resident(process.pid)
    finally:
        redis.thaw()
        redis.kill()
    return report


@contextlib.contextmanager
def _server(folder: Path, redis_url: str, seed: int, report: Report) -> Iterator[tuple[subprocess.Popen[bytes], int]]:
    keys, log, port = folder / "keys", folder / "server.log", free_port()
    keys.write_text(f"storm {hashlib.sha256(KEY.encode()).hexdigest()}\n")
    command = [sys.executable, "-m", "tests.service.chaos.server", str(port), redis_url, str(keys), str(seed)]
    with log.open("wb") as file:
        process = subprocess.Popen(command, cwd=ROOT, stdout=file, stderr=file)
    try:
        yield process, port
        process.terminate()
        report.exit_code = process.wait(60)
    finally:
        process.kill()
        process.wait()
        report.log = log.read_text(errors="replace")


async def _rain(port: int, requests: int, chance: random.Random, clients: int, report: Report, pid: int) -> None:
    """Every client takes the next request as soon as its last one has ended."""
    shots = (draw(chance) for _ in range(requests))
    ended = 0

    async def client() -> None:
        nonlocal ended
        for shot in shots:
            reply = await exchange(port, shot.message)
            outcome = _judge(shot, reply, report)
            ended += 1
            if ended == requests // 5:
                report.memory_warm = _resident(pid)
            if outcome in STRAINED:
                await asyncio.sleep(chance.uniform(0.05, 0.2))  # as a client that heeds Retry-After, only sooner

    async with asyncio.TaskGroup() as group:
        for _ in range(clients):
            group.create_task(client())


def _judge(shot: Shot, reply: Reply | None, report: Report) -> str | None:
    if reply is None:
        report.unseen += 1
        if not shot.cut:
            report.faults.append(f"{shot.kind}: no answer")
        return None
    outcome = "unreadable"
    try:
        outcome = reply.outcome
        report.seen[outcome] += 1
        assert outcome in shot.allowed, f"{outcome} {reply.body[:300]!r}"
        assert "x-request-id" in reply.headers
        assert b"secret" not in reply.body
        if outcome == "ok":
            shot.check(reply)
    except (AssertionError, ValueError, KeyError) as error:
        report.faults.append(f"{shot.kind}: {type(error).__name__}: {error}")
    return outcome


@contextlib.asynccontextmanager
async def _weather(redis: RedisServer, chance: random.Random, deeds: Counter[str]) -> AsyncIterator[None]:
    over = asyncio.Event()

    async def pause(shortest: float, longest: float) -> None:
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(over.wait(), chance.uniform(shortest, longest))

    async def happen() -> None:
        while not over.is_set():
            await pause(0.3, 1)
            deed = min(("frozen", "killed", "flushed"), key=lambda name: deeds[name])
            if deed == "frozen":
                redis.freeze()
                await pause(0.2, 1)
                redis.thaw()
            elif deed == "killed":
                await asyncio.to_thread(redis.kill)
                await pause(0.2, 1)
                await asyncio.to_thread(redis.start)
            else:
                await asyncio.to_thread(_flush, redis)
            deeds[deed] += 1

    task = asyncio.create_task(happen())
    try:
        yield
    finally:
        over.set()
        await task


def _flush(redis: RedisServer) -> None:
    with redis.client() as client:
        client.flushall()


async def _ready(port: int) -> None:
    async with asyncio.timeout(120):
        while True:
            with contextlib.suppress(ConnectionError):
                reply = await exchange(port, Message("GET", "/health/ready"))
                if reply is not None and reply.status == 200:
                    return
            await asyncio.sleep(0.05)


async def _settle(port: int, report: Report) -> None:
    """Wait until what clients left behind has ended; then count."""
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(60):
            while (report.after != report.idle) or report.counted.total() != report.sent:
                report.after = await _pending(port)
                report.counted = _counted(await _metrics(port))
                await asyncio.sleep(0.1)


async def _plain(port: int, report: Report) -> None:
    """The next plain requests are answered rightly; a model that was given up is taken back when it works."""
    await _ready(port)
    chance = random.Random(1)
    for number in range(CALM, CALM + 5):
        message = post(EMBEDDINGS, picture(number, chance))
        reply = await exchange(port, message)
        _judge(Shot("plain", message, frozenset({"ok"}), vectors_are([number])), reply, plain := Report())
        report.faults += plain.faults


async def _ask(port: int, path: str) -> str:
    reply = await exchange(port, Message("GET", path, AUTHORISED))
    assert reply is not None
    assert reply.status == 200, reply
    return reply.body.decode()


async def _metrics(port: int) -> list[tuple[str, str, dict[str, str], float]]:
    """Samples: the family's type, the name, labels and value."""
    families = text_string_to_metric_families(await _ask(port, "/metrics"))
    return [(family.type, s.name, s.labels, s.value) for family in families for s in family.samples]


def _counted(samples: list[tuple[str, str, dict[str, str], float]]) -> Counter[str]:
    counted: Counter[str] = Counter()
    for _, name, labels, value in samples:
        if name == "bootleg_requests_total" and labels["route"] not in OURS:
            counted[labels["outcome"]] += int(value)
    return counted


async def _pending(port: int) -> dict[str, object]:
    """All that must be as before once nobody asks: the gauges of waiting work, and tasks."""
    gauges = {
        f"{name} {labels}": value
        for kind, name, labels, value in await _metrics(port)
        if kind == "gauge" and not re.search(r"_seconds$|_created$|cache|process_|python_", name)
    }
    return gauges | json.loads(await _ask(port, PENDING))


def _resident(pid: int) -> float:
    status = Path(f"/proc/{pid}/status").read_text()
    found = re.search(r"VmRSS:\s+(\d+) kB", status)
    assert found is not None
    return int(found[1]) / 1024
