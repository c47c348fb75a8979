"""Run folders made by hand, of each age and state."""

from __future__ import annotations

import json

from bootleg_bundle.manifest import Provenance
from bootleg_training.checkpoint import weights_sha256, write_checkpoint
from bootleg_training.health.monitor import Monitor
from bootleg_training.track.runlog import RunLog
from tests.training.tiny import tiny_model

BEGAN = {
    "data": {"name": "tiny", "images": 40, "side": 40, "fingerprint": "tiny-40"},
    "commit": "0123456789ab",
    "hardware": "1 threads, a processor",
    "versions": {"torch": "2.13.0"},
}


def step_line(step, **changes):
    """A log line of a step of 8 images."""
    return {
        "step": step, "images": 8 * step, "seconds": 0.5 * step, "loss": 1 / step, "grad_norm": 0.5, "skipped_steps": 0,
        "loss_per_layer": [1.5 / step, 0.5 / step], "explained": [0.5, 0.25], "target_std": [0.75, 0.5], "lr": 1e-3,
        "weight_decay": 0.05, "momentum": 0.99, "images_per_s": 16.0, "data_wait": 0.02, "memory": 2**30, **changes,
    }  # fmt: skip


def write_run(folder, config, pack, spec, *, finished=True):
    """A run of today's format: two steps, checks before and after, and a checkpoint when it is finished."""
    folder.mkdir()
    model = tiny_model(config)
    (folder / "config.json").write_text(json.dumps(config.model_dump(mode="json")))
    (folder / "began.json").write_text(json.dumps(BEGAN))
    with RunLog(folder / "metrics.jsonl") as log:
        monitor = Monitor(log, pack, spec, config)
        monitor.start(model)
        for step in (1, 2):
            log.write(step_line(step))
        monitor.check(2, model)
    if finished:
        _write_checkpoint(folder / "checkpoint", model, config, spec)
    return model


def _write_checkpoint(path, model, config, spec):
    weights = dict(model.teacher.named_parameters())
    source = Provenance(
        method="Bootleg", dataset="tiny", dataset_fingerprint="tiny-40", steps=2, images_seen=16, training_seconds=1.0,
        hardware=BEGAN["hardware"], commit=BEGAN["commit"], checkpoint_sha256=weights_sha256(weights),
        versions=BEGAN["versions"],
    )  # fmt: skip
    fields = {
        "encoder": config.encoder, "target_layers": config.target.layers, "preprocess": spec, "run": config,
        "provenance": source,
    }  # fmt: skip
    write_checkpoint(path, {"encoder": weights}, fields)


def write_old_run(folder):
    """A run of the first format: other names, no began.json, figures of the embedding only."""
    folder.mkdir()
    config = {"name": "nano", "images": 64, "batch_size": 8, "target": {"layers": [1, 2]}}
    (folder / "config.json").write_text(json.dumps(config))
    line = step_line(8)
    for name in ("images_per_s", "data_wait", "weight_decay"):
        del line[name]
    for name in ("explained", "target_std"):
        line[f"{name}_per_layer"] = line.pop(name)
    lines = [
        {"step": 0, "encoder": "random_init", "knn": 0.225, "rank_me": 6.96},
        {**line, "step": 4, "images": 32, "seconds": 1.0},
        line,
        {"step": 8, "encoder": "teacher", "knn": 0.395, "rank_me": 15.3},
    ]
    (folder / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
