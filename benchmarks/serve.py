"""What the service adds to decoding and running: closed-loop clients against a bare script on the same cores.

    python -m benchmarks.serve [--images 2000] [--rounds 3]

Writes ``results/serve.json``. The bare script decodes and runs the same photographs in batches of 8 with two
threads, and is measured in turn with the service, so that a slow minute slows both. Each round's share is taken
within the round; medians are reported. Client, service and decoder share the machine's cores.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import json
import re
import socket
import statistics
import subprocess
import sys
import time
import urllib.request
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from benchmarks.result import write_result
from bootleg_bundle import Bundle, default_bundle_path, open_bundle
from bootleg_bundle.images import decode
from bootleg_bundle.preprocess import apply
from bootleg_service.cli import EXAMPLE_IMAGE
from bootleg_service.engine import open_engine
from bootleg_service.settings import EngineSettings

CLIENTS = (1, 8, 64)
BATCH = 8
COUNTER = itertools.count()


def main() -> None:
    """Measure and write."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--images", type=int, default=2000)
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    bundle = open_bundle(default_bundle_path())
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "bootleg_cli", "serve", "--port", str(port), "--cache-bytes", "0"]
    service = subprocess.Popen([*command, "--log-level", "warning"])
    try:
        _wait(port)
        rounds = [_round(bundle, port, arguments.images) for _ in range(arguments.rounds)]
    finally:
        service.terminate()
        service.wait()
    rows = [_median([measured[i] for measured in rounds]) for i in range(len(rounds[0]))]
    print(write_result("serve", rows))


def _round(bundle: Bundle, port: int, images: int) -> list[dict]:
    raw = bare_script(bundle, photographs(images))
    rows = [_row(bundle, "bare script", 1, rate=raw, raw=raw, latencies=[], batch=BATCH)]
    for clients in CLIENTS:
        before = batches(port)
        seconds, latencies = asyncio.run(closed_loop(port, photographs(images), clients))
        runs, total = (after - earlier for after, earlier in zip(batches(port), before, strict=True))
        measured = {"rate": images / seconds, "raw": raw, "latencies": latencies, "batch": total / runs}
        rows.append(_row(bundle, "closed loop, JPEG", clients, **measured))
    return rows


def _row(
    bundle: Bundle, load: str, clients: int, *, rate: float, raw: float, latencies: list[float], batch: float
) -> dict:
    p50, p99 = np.quantile(latencies, [0.5, 0.99]) * 1e3 if latencies else (None, None)
    return {
        "model": bundle.manifest.name,
        "load": load,
        "clients": clients,
        "images_per_s": rate,
        "share_of_raw": rate / raw,
        "p50_ms": p50,
        "p99_ms": p99,
        "mean_batch": batch,
    }


def _median(rows: list[dict]) -> dict:
    return {
        key: value
        if value is None or isinstance(value, str)
        else round(float(statistics.median(row[key] for row in rows)), 3)
        for key, value in rows[0].items()
    } | {"clients": rows[0]["clients"]}


def photographs(count: int) -> list[bytes]:
    """Encoded photographs with different bytes, so that no cache and no single flight helps."""
    data = EXAMPLE_IMAGE.read_bytes()
    return [data + next(COUNTER).to_bytes(8, "little") for _ in range(count)]


def bare_script(bundle: Bundle, images: list[bytes]) -> float:
    """Images a second of decode and run without a service."""
    engine = open_engine(bundle, EngineSettings(device="cpu"))
    spec = bundle.manifest.preprocess
    engine.warm_up([BATCH])
    begun = time.perf_counter()
    with ThreadPoolExecutor(2) as pool:
        decoded = pool.map(lambda data: apply(spec, decode(data)), images)
        while batch := list(itertools.islice(decoded, BATCH)):
            engine.run(np.stack(batch), ["embedding"])
    return len(images) / (time.perf_counter() - begun)


async def closed_loop(port: int, images: list[bytes], clients: int) -> tuple[float, list[float]]:
    """Each client sends its next image when the last is answered; seconds in all, and each latency."""
    waiting, latencies = iter(images), []

    async def client() -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        for data in waiting:
            begun = time.perf_counter()
            head = (
                f"POST /v1/images/embeddings HTTP/1.1\r\nHost: x\r\nAccept: application/octet-stream\r\n"
                f"Content-Length: {len(data)}\r\n\r\n"
            )
            writer.write(head.encode() + data)
            status = await reader.readuntil(b"\r\n\r\n")
            assert b" 200 " in status.split(b"\r\n")[0], status
            length = re.search(rb"content-length: (\d+)", status, re.IGNORECASE)
            assert length is not None
            await reader.readexactly(int(length[1]))
            latencies.append(time.perf_counter() - begun)
        writer.close()

    begun = time.perf_counter()
    await asyncio.gather(*(client() for _ in range(clients)))
    return time.perf_counter() - begun, latencies


def batches(port: int) -> tuple[float, float]:
    """Forward passes so far, and the images in them."""
    text = urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=5).read().decode()
    found = dict(re.findall(r"^bootleg_batch_size_(count|sum) (\S+)$", text, re.MULTILINE))
    return float(found["count"]), float(found["sum"])


def _wait(port: int) -> None:
    for _ in range(600):
        try:
            answer = urllib.request.urlopen(f"http://127.0.0.1:{port}/health/ready", timeout=1)
            assert json.load(answer) == {"status": "ready"}
        except OSError:
            time.sleep(0.1)
        else:
            return
    raise TimeoutError("the service did not become ready")


if __name__ == "__main__":
    main()
