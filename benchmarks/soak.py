"""Does the service's memory stay where it is? Many requests with images of all sizes and formats, some of them broken.

    python -m benchmarks.soak [--requests 100000] [--clients 8]     about ten minutes on two quiet cores

Writes ``results/soak.json``, with the resident memory of the service after each two-hundredth part of the requests, and
``docs/soak.svg``. The in-process cache has 4 MB, so that it is full early and what grows later is no cache. Sides are
16 to 1,500 pixels, small ones more often: what frees memory in pieces of all sizes is what fragments it.
"""

from __future__ import annotations

import argparse
import asyncio
import io
import itertools
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import uvloop
from PIL import Image

from benchmarks.result import write_result
from benchmarks.serve_load import Connection, connected, image_request
from benchmarks.serve_processes import service
from bootleg_bundle import default_bundle_path
from bootleg_training.track.plot import Series, chart

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    Row = dict[str, Any]

PLOT = Path(__file__).parents[1] / "docs" / "soak.svg"
SAMPLES = 200
POOL = 400
"""Different images; each is sent many times, mostly with other bytes behind it, which nobody decodes."""
SIDES = (16, 1500)
CACHE_BYTES = 4_000_000
WARM = 0.2
"""Share of the requests after which memory should stay."""

STYLE = (
    "text{font:11px sans-serif;fill:#777}.grid,.base{stroke:#777;stroke-opacity:.3}"
    ".line path{fill:none;stroke:#2a7de1;stroke-width:1.5}"
)
"""Readable on white and on black."""


def main() -> None:
    """Send, sample, write."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--requests", type=int, default=100_000)
    parser.add_argument("--clients", type=int, default=8)
    asked = parser.parse_args()
    with service(default_bundle_path(), "--cache-bytes", str(CACHE_BYTES)) as server:
        rows = soak(server.port, lambda: server.rss_mb, asked.requests, asked.clients)
    PLOT.write_text(plot(rows), encoding="utf-8")
    print(write_result("soak", rows))
    print(f"{growth(rows):+.1f} MB from {100 * WARM:.0f} % of the requests on")


def soak(port: int, rss_mb: Callable[[], float], requests: int, clients: int) -> list[Row]:
    """Send so many requests.

    Returns:
        Rows with ``requests`` so far, their ``images``, how many were ``ok`` or ``refused``, ``seconds``, ``rss_mb``.
    """
    todo = itertools.islice(mixed(np.random.default_rng(0), pictures(np.random.default_rng(1), POOL)), requests)
    rows: list[Row] = []
    sent = {"requests": 0, "images": 0, "ok": 0, "refused": 0}
    every = max(1, requests // SAMPLES)
    begun = time.perf_counter()

    async def client(connection: Connection) -> None:
        for images, request in todo:
            status = await connection.ask(request)
            assert status in {200, 422}, f"the service answered {status}"
            sent["requests"] += 1
            sent["images"] += images
            sent["ok" if status == 200 else "refused"] += 1
            if sent["requests"] % every == 0:
                rows.append({**sent, "seconds": round(time.perf_counter() - begun, 1), "rss_mb": round(rss_mb(), 1)})

    async def run() -> None:
        async with connected(port, clients) as connections:
            await asyncio.gather(*map(client, connections))

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(run())
    return rows


def pictures(rng: np.random.Generator, count: int) -> list[bytes]:
    """Encoded images of all sizes and formats."""
    return [_encoded(rng) for _ in range(count)]


def mixed(rng: np.random.Generator, pool: list[bytes]) -> Iterator[tuple[int, bytes]]:
    """Endless requests, and how many images each has: most have one; a tenth have several, a twentieth a broken one."""
    for number in itertools.count():
        several = rng.random() < 0.1
        images = [pool[i] for i in rng.integers(len(pool), size=rng.integers(2, 9) if several else 1)]
        if rng.random() < 0.9:  # the others may be in the cache
            images = [image + number.to_bytes(8, "little") for image in images]
        if rng.random() < 0.05:
            images[-1] = images[-1][: 20 + int(rng.integers(len(images[-1]) // 2))]
        yield len(images), image_request(images, "application/octet-stream")


def growth(rows: list[Row]) -> float:
    """How much more memory the last tenth had than the tenth after warming up, in MB: medians."""
    tenth = max(1, len(rows) // 10)
    warm = int(WARM * len(rows))
    return float(
        np.median([row["rss_mb"] for row in rows[-tenth:]])
        - np.median([row["rss_mb"] for row in rows[warm : warm + tenth]])
    )


def plot(rows: list[Row]) -> str:
    """Memory over requests, as an SVG file."""
    points: list[tuple[float, float | None]] = [(row["requests"], row["rss_mb"]) for row in rows]
    drawn = chart("Resident memory of the service", [Series("memory", points)], unit="MB", low=0, x_name="requests")
    head, rest = drawn.split(">", 1)
    opening = head.replace("<svg ", '<svg xmlns="http://www.w3.org/2000/svg" ')
    return f"{opening}><style>{STYLE}</style>{rest}\n"


def _encoded(rng: np.random.Generator) -> bytes:
    low, high = np.log(SIDES)
    width, height = np.exp(rng.triangular(low, low, high, size=2)).astype(int)
    coarse = Image.fromarray(rng.integers(0, 256, (8, 8, 3), np.uint8)).resize(
        (width, height), Image.Resampling.BICUBIC
    )
    kind = rng.choice(["JPEG", "JPEG", "PNG", "WEBP"])
    mode = rng.choice(["RGB", "RGB", "L", *(["RGBA", "P"] if kind == "PNG" else [])])
    file = io.BytesIO()
    coarse.convert(mode).save(file, kind)
    return file.getvalue()


if __name__ == "__main__":
    main()
