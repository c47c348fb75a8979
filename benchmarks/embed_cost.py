"""What one image costs in bulk embedding, stage by stage, in CPU time: the base of the cost model in docs/scale.md.

    python -m benchmarks.embed_cost PHOTOGRAPHS [--images 128] [--rounds 5]

Writes ``results/embed_cost.json``. CPU time of the process, all threads together, and not time by the clock: a busy
machine hardly moves it. Encoders: the shipped bundle, and a ViT-S/16 at 224 pixels with random weights. Stages are
those of a part of ``--engine ray``: list (open the source, fingerprint), read, decode and preprocess, model (fp32, one
thread, batches of 32), write (parquet, to the disk). Every stage of every encoder is run once a round over the same
photographs; medians over the rounds. Bytes are those of the file that was written.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from benchmarks.export import write_random
from benchmarks.result import write_result
from bootleg_bundle import default_bundle_path, open_bundle
from bootleg_bundle.sources import Source, open_source
from bootleg_embed.journal import Identity
from bootleg_embed.local import LocalBackend
from bootleg_embed.parts.part import PartWriter
from bootleg_embed.parts.partition import Excerpt, Partition, listings
from bootleg_embed.parts.plan import Plan
from bootleg_export.build import build_bundle
from bootleg_export.options import ExportOptions

if TYPE_CHECKING:
    from collections.abc import Callable

BATCH = 32
WRITTEN = 8192
"""Rows of the part that is written: the command's own size, whose footer and flushes are shared by so many."""


def main() -> None:
    """Measure and write."""
    parser = argparse.ArgumentParser()
    parser.add_argument("photographs")
    parser.add_argument("--images", type=int, default=128)
    parser.add_argument("--rounds", type=int, default=5)
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        bundles = {"": default_bundle_path(), ", random weights": _random_bundle(Path(folder))}
        encoders = [Cost(path, note, asked.photographs, asked.images, Path(folder)) for note, path in bundles.items()]
        for _ in range(asked.rounds):
            for encoder in encoders:
                encoder.measure()
    print(write_result("embed_cost", [row for encoder in encoders for row in encoder.rows()]))


class Cost:
    """The stages of one encoder over the first images of a source, and what they took in each round."""

    def __init__(self, bundle: Path, note: str, photographs: str, images: int, folder: Path) -> None:
        manifest = open_bundle(bundle).manifest
        self.encoder = f"{manifest.architecture.name} at {manifest.preprocess.height} px{note}"
        self._spec, self._folder = photographs, folder
        self._backend = LocalBackend(bundle, {"device": "cpu", "precision": "fp32", "threads": 1}, "embedding", BATCH)
        self._source = Excerpt(open_source(photographs), range(images))
        self._seconds: dict[str, list[float]] = {}
        self._images, self._bytes = images, 0

    def measure(self) -> None:
        """One round."""
        whole = self._stage("list", self._listed)
        self._seconds["list"][-1] *= self._images / len(whole)  # it is all of the source
        encoded = self._stage("read", lambda: [self._source.read(number) for number in range(self._images)])
        pixels = self._stage("decode, preprocess", lambda: [self._backend.prepare(data) for data in encoded])
        batches = [pixels[start : start + BATCH] for start in range(0, len(pixels), BATCH)]
        rows = self._stage("model", lambda: [row for batch in batches for row in self._backend.rows(batch)])
        self._stage("write", lambda: self._write(rows))
        self._seconds["write"][-1] *= self._images / WRITTEN

    def rows(self) -> list[dict[str, Any]]:
        """One row a stage."""
        cost = {stage: statistics.median(times) / self._images * 1e3 for stage, times in self._seconds.items()}
        shared = {
            "encoder": self.encoder,
            "input_bytes": round(sum(self._source.size(n) for n in range(self._images)) / self._images),
            "dimensions": self._backend.served.row[0],
            "output_bytes": round(self._bytes / WRITTEN),
        }
        total = sum(cost.values())
        return [
            {"stage": stage, "ms_per_image": round(ms, 4), "share": round(ms / total, 4), **shared}
            for stage, ms in cost.items()
        ]

    def _stage(self, name: str, work: Callable[[], Any]) -> Any:
        begun = time.process_time()
        result = work()
        self._seconds.setdefault(name, []).append(time.process_time() - begun)
        return result

    def _listed(self) -> Source:
        source = open_source(self._spec)
        listings(source, Partition(len(source), WRITTEN))
        return source

    def _write(self, rows: list[Any]) -> None:
        served = self._backend.served
        identity = Identity(
            source="0" * 64,
            images=WRITTEN,
            output="embedding",
            dtype="float32",
            ids="path",
            model=served.model,
            model_sha256=served.sha256,
            embedding_space=served.space,
            row=served.row,
        )
        plan = Plan(identity=identity, part_images=WRITTEN, batch=BATCH)
        # Noise on the values, a number in the names: what repeats would be smaller than the real thing, and faster.
        noise = np.random.default_rng(0).normal(1, 0.01, (WRITTEN, *served.row)).astype(np.float32)
        with PartWriter(self._folder, plan, 0) as writer:
            for start in range(0, WRITTEN, BATCH):
                names = [f"{n:07}/{self._source.file(n % self._images)}" for n in range(start, start + BATCH)]
                found = [rows[n % self._images] * noise[n] for n in range(start, start + BATCH)]
                writer.append(names, found, 0.0)
        self._bytes = (self._folder / plan.partition.name(0)).stat().st_size


def _random_bundle(folder: Path) -> Path:
    return build_bundle(
        write_random(folder / "checkpoint"), folder / "vit-s", name="vit-s", options=ExportOptions()
    ).bundle.path


if __name__ == "__main__":
    main()
