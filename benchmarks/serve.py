"""What the service adds to decoding and running, for the shipped bundle and a ViT-S/16 at 224 px with random weights.

    python -m benchmarks.serve [--rounds 3] [--seconds 2] [--vit-s FOLDER]      writes results/serve.json
    python -m benchmarks.serve --quick                                          one round, the shipped bundle, printed

About eight minutes on two cores; FOLDER is what ``benchmarks.untrained`` wrote earlier, and saves a minute.

**Ceilings** are measured without a service, before and after the loads that are compared with them, in every round:

- ready tensors: ``Engine.run`` on one batch of 8 again and again, which is ``session.run`` and no more;
- JPEG: a bare script that decodes in as many threads as the service and runs batches of 8, by the service's own code;
- cache hits: a FastAPI route that reads the same body and answers as many bytes, in a process like the service's;
- the stub engine, which sleeps a + b * n: its own calls, one after another.

**With the same cores** is read in two ways. Client, service and ceilings have the same cores; ``share_of_raw`` is taken
from what the clock says, so that the client's work counts against the service. ``share_less_client`` gives that back:
the client's CPU seconds, over the number of cores, are taken from the time, as if it ran on another machine. It is
given where the cores are the bound: not for one client, open loops, cache hits and the stub.

**Loads** are closed loops, where each client sends its next request when the last is answered, with one image a
request, 8, or 32, the most there may be; 64 clients send single images only, as 512 images at once are over the
service's queue. The open loop sends at random moments (Poisson), at 70 % of the rate that 64 clients reached in that
round. Every image is new to the cache, but for cache hits: one image in one form. Shares are taken within a round;
medians over the rounds are reported, of latencies too.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import math
import statistics
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from benchmarks.result import write_result
from benchmarks.serve_ceilings import BATCH, bare_runs, bare_script, photographs
from benchmarks.serve_load import Load, closed_loop, image_request, open_loop, tensor_request
from benchmarks.serve_processes import STAND_INS, Server, service, serving
from benchmarks.serve_stand_ins import StubEngine
from bootleg_bundle import Bundle, default_bundle_path, open_bundle
from bootleg_bundle.cores import usable_cores
from bootleg_service.engine import Engine, open_engine
from bootleg_service.settings import EngineSettings

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    Row = dict[str, Any]

SINGLE = ((1, 1), (8, 1), (64, 1))
GROUPED = ((1, 8), (8, 8), (2, 32))
"""Clients, and images of a request."""
HIT_CLIENTS = 8
OPEN_SHARE = 0.7
LEAST_IMAGES = 48
STUB_MS = (5.0, 1.0)
"""a and b: 13 ms for a batch of 8."""


@dataclass
class Subject:
    """A model that is served, and what runs it without a service."""

    bundle: Bundle
    engine: Engine
    server: Server

    @property
    def name(self) -> str:
        """Of the model."""
        return self.bundle.manifest.name

    def pixels(self, images: int) -> np.ndarray:
        """Ready pixels; their values change nothing."""
        spec = self.bundle.manifest.preprocess
        return np.full((images, spec.height, spec.width, 3), 128, np.uint8)


def main() -> None:
    """Measure and write."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=2.0, help="of each load, about")
    parser.add_argument("--vit-s", type=Path)
    parser.add_argument("--quick", action="store_true")
    asked = parser.parse_args()
    rounds, seconds = (1, 0.5) if asked.quick else (asked.rounds, asked.seconds)
    with tempfile.TemporaryDirectory() as folder, contextlib.ExitStack() as stack:
        paths = [default_bundle_path()]
        if not asked.quick:
            paths.append(asked.vit_s or untrained(Path(folder, "vit-s")))
        subjects = [Subject(*opened(path), stack.enter_context(service(path))) for path in paths]
        empty = stack.enter_context(serving(*STAND_INS, "empty", "PORT"))
        stub = stack.enter_context(serving(*STAND_INS, "stub", "PORT", *map(str, STUB_MS)))
        measured = []
        for number in range(rounds):
            measured.append(one_round(subjects, empty, stub, seconds))
            print(f"round {number + 1} of {rounds}", file=sys.stderr)
    rows = [median(rows) for rows in zip(*measured, strict=True)]
    print("\n".join(map(json.dumps, rows)))
    if not asked.quick:
        print(write_result("serve", rows))


def untrained(path: Path) -> Path:
    """Write the ViT-S/16."""
    subprocess.run([sys.executable, "-m", "benchmarks.untrained", str(path)], check=True)
    return path


def opened(path: Path) -> tuple[Bundle, Engine]:
    """A bundle and its engine, as the service opens it, warm."""
    bundle = open_bundle(path)
    engine = open_engine(bundle, EngineSettings(device="cpu"))
    engine.warm_up([BATCH])
    return bundle, engine


def one_round(subjects: Iterable[Subject], empty: Server, stub: Server, seconds: float) -> list[Row]:
    """Everything once."""
    rows: list[Row] = []
    for subject in subjects:
        rows += jpegs(subject, seconds) + tensors(subject, seconds)
        first = rows[0]["model"] == subject.name
        if first:
            rows += cache_hits(subject, empty, seconds) + stubbed(subject, stub, seconds)
    return rows


def jpegs(subject: Subject, seconds: float) -> list[Row]:
    """Encoded photographs against the bare script."""
    spec, count = subject.bundle.manifest.preprocess, LEAST_IMAGES

    def ceiling() -> float:
        nonlocal count
        rate = bare_script(subject.engine, spec, photographs(count))
        count = _whole(rate * seconds)
        return rate

    def make(images: int) -> bytes:
        return image_request(photographs(images))

    ceiling()  # learns how many images take the time
    before = ceiling()
    found = [closed(subject.server, make, load, before * seconds) for load in (*SINGLE, *GROUPED)]
    capacity = found[SINGLE.index((64, 1))]["images_per_s"]
    requests = [make(1) for _ in range(_whole(capacity * OPEN_SHARE * seconds))]
    waiting = watched(subject.server, lambda: open_loop(subject.server.port, requests, capacity * OPEN_SHARE), 1)
    found.append({"load": "open loop at 70 %", "clients": None, **waiting})
    return compared(subject.name, "JPEG", "bare script", found, before, ceiling())


def tensors(subject: Subject, seconds: float) -> list[Row]:
    """Ready pixels against ``session.run``."""
    before = bare_runs(subject.engine, subject.pixels(BATCH), seconds)

    def make(images: int) -> bytes:
        return tensor_request(subject.name, subject.pixels(images))

    found = [closed(subject.server, make, load, before * seconds) for load in (*SINGLE, *GROUPED)]
    after = bare_runs(subject.engine, subject.pixels(BATCH), seconds)
    return compared(subject.name, "ready tensors", "session.run", found, before, after)


def cache_hits(subject: Subject, empty: Server, seconds: float) -> list[Row]:
    """One photograph again and again against a route that only reads it."""
    request = image_request(photographs(1))

    def ask(server: Server, count: int) -> Row:
        return watched(server, lambda: closed_loop(server.port, [request] * count, HIT_CLIENTS), 1)

    count = _whole(ask(empty, 200)["images_per_s"] * seconds)
    ask(subject.server, 1)
    before = ask(empty, count)["images_per_s"]
    found = [{"load": "closed loop", "clients": HIT_CLIENTS, **ask(subject.server, count)}]
    after = ask(empty, count)["images_per_s"]
    return compared(subject.name, "cache hits", "empty FastAPI route", found, before, after, bound=False)


def stubbed(subject: Subject, stub: Server, seconds: float) -> list[Row]:
    """The whole service on an engine that sleeps, against the engine alone."""
    engine = StubEngine(*(number / 1e3 for number in STUB_MS), subject.bundle.manifest.outputs.dim)
    before = bare_runs(engine, subject.pixels(BATCH), seconds)

    def make(images: int) -> bytes:
        return tensor_request(subject.name, subject.pixels(images))

    found = [closed(stub, make, load, before * seconds) for load in ((64, 1), (8, 8), (2, 32))]
    after = bare_runs(engine, subject.pixels(BATCH), seconds)
    name = f"stub, {STUB_MS[0]:g} ms + {STUB_MS[1]:g} ms an image"
    return compared(name, "ready tensors", "stub alone", found, before, after, bound=False)


def closed(server: Server, make: Callable[[int], bytes], load: tuple[int, int], images: float) -> Row:
    """A closed loop of about so many images."""
    clients, each = load
    count = max(math.ceil(_whole(images) / each), 2 * clients)
    requests = [make(each) for _ in range(count)]
    done = watched(server, lambda: closed_loop(server.port, requests, clients), each)
    return {"load": "closed loop", "clients": clients, **done}


def watched(server: Server, run: Callable[[], Load], each: int) -> Row:
    """Run a load of ``each`` images a request, and say what it cost whom."""
    cpu, (runs, run_images) = server.cpu_seconds, _batches(server)
    load = run()
    images = each * len(load.latencies)
    runs, run_images = (after - before for after, before in zip(_batches(server), (runs, run_images), strict=True))
    p50, p99 = np.quantile(load.latencies, [0.5, 0.99]) * 1e3
    return {
        "images_per_request": each,
        "images_per_s": images / load.seconds,
        "p50_ms": float(p50),
        "p99_ms": float(p99),
        "mean_batch": run_images / runs if runs else None,
        "service_ms": 1e3 * (server.cpu_seconds - cpu) / images,
        "client_ms": 1e3 * load.client_seconds / images,
        "busy": load.client_seconds / usable_cores() / load.seconds,
    }


def compared(
    model: str, kind: str, ceiling: str, found: list[Row], before: float, after: float, *, bound: bool = True
) -> list[Row]:
    """Rows with their shares of a ceiling, and the ceiling's own in front."""
    raw = (before + after) / 2
    rows: list[Row] = [{"model": model, "load": ceiling, "clients": None, "images_per_s": raw, "share_of_raw": 1.0}]
    for row in found:
        share, client = row["images_per_s"] / raw, row.pop("busy")
        by_cores = bound and row["clients"] not in {None, 1}
        rows.append(
            {
                "model": model,
                **row,
                "load": f"{row['load']}, {kind}",
                "share_of_raw": share,
                "share_less_client": share / (1 - client) if by_cores else None,
            }
        )
    return rows


def median(rows: Iterable[Row]) -> Row:
    """One row of several rounds' equal ones."""
    first, *others = rows
    return {
        key: value
        if value is None or isinstance(value, str | int)
        else round(statistics.median(row[key] for row in (first, *others)), 3)
        for key, value in first.items()
    }


def _whole(images: float) -> int:
    """So many in full batches, and not too few."""
    return max(LEAST_IMAGES, math.ceil(images / BATCH) * BATCH)


def _batches(server: Server) -> tuple[float, float]:
    try:
        return server.batches()
    except OSError:  # a stand-in without metrics
        return 0.0, 0.0


if __name__ == "__main__":
    main()
