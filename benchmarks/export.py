"""What each precision of an exported encoder weighs, how exact it is, and how fast on this processor.

    python -m benchmarks.export CHECKPOINT --calibration SOURCE --tasks TRAIN TEST [--rounds 15]

Writes ``results/export.json``: the checkpoint's encoder, and a ViT-S/16 at 224 pixels with random weights, whose
activations have no outliers and whose accuracy means nothing. Errors are those of the export's own parity rows, the
worst output's. Ratios are fp32's time over the precision's for the same batch, all precisions in turn within each
round; medians over rounds and batches of 1 and 8. bf16 runs on no processor: it has size and error only.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from benchmarks.result import write_result
from bootleg_bundle.manifest import GRAPH_INPUT, Provenance
from bootleg_bundle.preprocess import PreprocessSpec
from bootleg_export.build import build_bundle
from bootleg_export.judge import NO_KERNELS
from bootleg_export.options import ExportOptions
from bootleg_export.parity import GATES
from bootleg_export.samples import natural_noise
from bootleg_export.session import open_session
from bootleg_training.checkpoint import weights_sha256, write_checkpoint
from bootleg_training.config import EncoderConfig, RunConfig
from bootleg_training.vit import Encoder

if TYPE_CHECKING:
    from bootleg_bundle.bundle import Bundle

VIT_S = EncoderConfig(image_size=224, patch_size=16, width=384, depth=12, heads=6)
LOWER = ("fp16", "bf16", "int8")
BATCHES = (1, 8)


def main() -> None:
    """Measure and write."""
    parser = argparse.ArgumentParser()
    parser.add_argument("checkpoint", type=Path)
    parser.add_argument("--calibration", required=True)
    parser.add_argument("--tasks", nargs=2, required=True, metavar=("TRAIN", "TEST"))
    parser.add_argument("--rounds", type=int, default=15)
    asked = parser.parse_args()
    tasks = (asked.tasks[0], asked.tasks[1])
    with tempfile.TemporaryDirectory() as folder:
        random = write_random(Path(folder, "vit-s"))
        chosen = [
            (asked.checkpoint, ExportOptions(LOWER, asked.calibration, tasks)),
            (random, ExportOptions(LOWER, asked.calibration)),
        ]
        rows = []
        for number, (checkpoint, options) in enumerate(chosen):
            built = build_bundle(checkpoint, Path(folder, str(number)), name=f"bench-{number}", options=options)
            for precision, fault in built.refused.items():
                print(f"{precision} was refused: {fault}")
            weights = "" if number == 0 else ", random weights"
            rows += rows_of(built.bundle, weights, asked.rounds)
    print(write_result("export", rows))


def rows_of(bundle: Bundle, weights: str, rounds: int) -> list[dict[str, Any]]:
    """One row a precision."""
    manifest = bundle.manifest
    side = manifest.preprocess.height
    ratios = cpu_ratios(bundle, rounds)
    rows = []
    for precision in sorted(manifest.graphs, key=list(GATES).index):
        graph = manifest.graphs[precision]
        parity = [row for row in manifest.parity if row.precision == precision]
        knn = next((task for task in manifest.tasks if (task.precision, task.task) == (precision, "knn")), None)
        row = {
            "model": f"{manifest.architecture.name} at {side} px{weights}",
            "precision": precision,
            "size_mb": round(bundle.file(graph.file).stat().st_size / 1e6, 1),
            "rel_frobenius": max(row.relative_frobenius for row in parity),
            "cosine_min": min(row.cosine_min for row in parity),
        }
        if precision in ratios:
            row["cpu_ratio_to_fp32"] = round(ratios[precision], 2)
        if knn is not None:
            row["knn_drop"] = round(knn.drop, 2)
        rows.append(row)
    return rows


def cpu_ratios(bundle: Bundle, rounds: int) -> dict[str, float]:
    """fp32's seconds over each precision's: the median over the rounds of every batch."""
    runs = [precision for precision in bundle.manifest.graphs if precision not in NO_KERNELS]
    sessions = {precision: open_session(bundle.graph(precision)) for precision in runs}
    spec = bundle.manifest.preprocess
    found: dict[str, list[float]] = {precision: [] for precision in runs}
    for batch in BATCHES:
        pixels = natural_noise(batch, spec.height, spec.width)
        for number in range(rounds + 1):
            seconds = {}
            for precision, session in sessions.items():
                begun = time.perf_counter()
                session.run(None, {GRAPH_INPUT: pixels})
                seconds[precision] = time.perf_counter() - begun
            if number:  # the first round warms up
                for precision, spent in seconds.items():
                    found[precision].append(seconds["fp32"] / spent)
    return {precision: statistics.median(ratios) for precision, ratios in found.items()}


def write_random(path: Path) -> Path:
    """A checkpoint of an untrained ViT-S/16."""
    torch.manual_seed(0)
    encoder = Encoder(VIT_S)
    nothing = {"dataset": "none", "dataset_fingerprint": "", "steps": 0, "images_seen": 0, "training_seconds": 0.0}
    provenance = Provenance(
        method="none",
        hardware="none",
        commit="none",
        checkpoint_sha256=weights_sha256(dict(encoder.named_parameters())),
        versions={},
        **nothing,
    )
    config: dict[str, object] = {
        "encoder": VIT_S,
        "target_layers": (1, 4, 8, 12),
        "preprocess": PreprocessSpec(height=VIT_S.image_size, width=VIT_S.image_size),
        "run": RunConfig(encoder=VIT_S),
        "provenance": provenance,
    }
    write_checkpoint(path, {"encoder": encoder.state_dict()}, config)
    return path


if __name__ == "__main__":
    main()
