"""Whole training steps, in turn, on the same batches: ours against I-JEPA's public step, and ours in its variants.

    python -m benchmarks.training_step [--preset nano ...] [--rounds 7] [--device auto] [--batch N] [--quick]

Writes ``results/training.json``. Ratios are to the plain step, taken round by round; medians are reported. A round is
a pass over a few batches with one wait for the device at its end, so that a step that needs no wait gains by it; masks
and crops are drawn beforehand. ``mfu`` is the model's arithmetic (matrix products, forward and backward, teacher
included) over what the device reaches in one large bf16 matrix product in the same round. ``--quick`` is a trial of
one batch and small size: it prints its rows and publishes nothing.
"""

from __future__ import annotations

import argparse
import json
import statistics
from contextlib import nullcontext
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any
from unittest import mock

import torch
from torch.nn import functional as F

from benchmarks.plain_ijepa import PlainIJepa, collate, ijepa_config
from benchmarks.result import write_result
from benchmarks.step_parts import part_rows, seconds, update_rows
from bootleg_bundle.preprocess import PreprocessSpec
from bootleg_export.samples import natural_noise
from bootleg_training import vit
from bootleg_training.config import EncoderConfig
from bootleg_training.device import choose_device
from bootleg_training.engine.batch import Batch, make_batch
from bootleg_training.engine.flops import image_flops
from bootleg_training.engine.schedule import rates
from bootleg_training.engine.trainer import Trainer
from bootleg_training.presets import PRESETS

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Tensor

    from bootleg_training.config import RunConfig

CPU = torch.device("cpu")
BATCHES = 4

MATMUL = {"cpu": 2048, "cuda": 8192}
"""Side of the matrices whose product is the measure of ``mfu``."""

VIT_B = PRESETS["small"].model_copy(update={"encoder": EncoderConfig(width=768, heads=12), "batch_size": 256})
SHAPES = {**PRESETS, "vit-b-16": VIT_B}


@dataclass(frozen=True)
class Arm:
    """One way to take a step.

    Attributes:
        name: in the table.
        config: what is computed.
        plain: by the plain step.
        attend: attention to use instead of ours.
    """

    name: str
    config: RunConfig
    plain: bool = False
    attend: Callable[..., Tensor] | None = None


def main() -> None:
    """Measure and write."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--preset", action="append", choices=list(SHAPES))
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--device", default="auto")
    parser.add_argument("--batch", type=int, help="images of a step instead of the preset's")
    parser.add_argument("--quick", action="store_true")
    asked = parser.parse_args()
    device = choose_device(asked.device)
    names = asked.preset or ["nano", "tiny-cpu", *(["vit-b-16"] if device.type == "cuda" else [])]
    if asked.quick:
        asked.rounds, asked.batch = min(asked.rounds, 3), asked.batch or 32
    rows: list[dict[str, Any]] = []
    for name in names:
        config = SHAPES[name].model_copy(update={"accumulate": 1, "compile": False})
        config = config.model_copy(update={"batch_size": asked.batch or config.batch_size}).resolved()
        rows += measure(config, device, rounds=asked.rounds, batches=1 if asked.quick else BATCHES)
    print(json.dumps(rows, indent=2) if asked.quick else write_result("training", rows, device=device))


def measure(config: RunConfig, device: torch.device, *, rounds: int, batches: int) -> list[dict[str, Any]]:
    """Rows of every arm, of the step's parts and of the updates by themselves."""
    size = config.encoder.image_size
    spec = PreprocessSpec(height=size, width=size)
    images_BHWC = torch.from_numpy(natural_noise(config.batch_size, size, size)).to(device)
    drawn = [make_batch(config, images_BHWC, spec, step) for step in range(batches)]
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu"
    about = {"encoder": f"{config.encoder.label} at {size} px", "device": name, "batch": config.batch_size}
    rows = [{**row, **about} for row in arm_rows(arms(config, device), drawn, device, rounds)]
    trainer = Trainer(config, device)
    rows += part_rows(trainer, images_BHWC, spec, rounds, about)
    return rows + update_rows(trainer.model, 3 * rounds, device, about)


def arms(config: RunConfig, device: torch.device) -> list[Arm]:
    """The plain step first: it is the base of the ratios."""
    plain = ijepa_config(config)
    each, joint = (
        config.model_copy(update={"predictor": config.predictor.model_copy(update={"joint": joint})})
        for joint in (False, True)
    )
    found = [
        Arm("I-JEPA, plain", plain, plain=True),
        Arm("I-JEPA, ours", plain),
        Arm("Bootleg, per rectangle", each),
        Arm("Bootleg, joint", joint),
    ]
    on_cpu = device.type == "cpu"
    other = ("fused attention", F.scaled_dot_product_attention) if on_cpu else ("attention written out", written_out)
    attention = Arm(f"Bootleg, joint, {other[0]}", joint, attend=other[1])
    compiled = [
        replace(arm, name=f"{arm.name}, compiled", config=arm.config.model_copy(update={"compile": True}))
        for arm in found[1:]
    ]
    return [*found, attention, *([] if on_cpu else compiled)]


def arm_rows(chosen: list[Arm], drawn: list[Batch], device: torch.device, rounds: int) -> list[dict[str, Any]]:
    """Measure arms in turn, round by round; the first is the base of the ratios."""
    passes = {arm.name: one_pass(arm, drawn, device) for arm in chosen}
    work = {arm.name: flops(arm.config, drawn) for arm in chosen}
    times: dict[str, list[float]] = {arm.name: [] for arm in chosen}
    speeds = []
    for run in passes.values():  # warm-up, and every shape compiled
        seconds(run, device)
    matmul_rate(device)
    for _ in range(rounds):
        speeds.append(matmul_rate(device))
        for name, run in passes.items():
            times[name].append(seconds(run, device))
    base = times[chosen[0].name]
    images = sum(len(batch.images_BHWC) for batch in drawn)
    return [
        {
            "step": name,
            "images_per_s": round(images / statistics.median(spent), 1),
            "ratio": round(statistics.median(b / t for b, t in zip(base, spent, strict=True)), 3),
            "mfu": round(statistics.median(work[name] / t / s for t, s in zip(spent, speeds, strict=True)), 4),
        }
        for name, spent in times.items()
    ]


def one_pass(arm: Arm, drawn: list[Batch], device: torch.device) -> Callable[[], None]:
    """A step on each batch, by a model of its own."""
    trainer = Trainer(arm.config, device)
    now = rates(arm.config, arm.config.images // 2)
    if arm.plain:
        plain, collated = PlainIJepa(trainer.model, arm.config), [collate(batch) for batch in drawn]

        def run_plain() -> None:
            for batch in collated:
                plain.step(batch, now)

        return run_plain

    def run() -> None:
        with mock.patch.object(vit, "attend", arm.attend) if arm.attend else nullcontext():
            for batch in drawn:
                trainer.step(batch, now)

    return run


def written_out(q_BhSd: Tensor, k_BhSd: Tensor, v_BhSd: Tensor) -> Tensor:
    """Attention as two matrix products, wherever it runs."""
    weights = (q_BhSd * q_BhSd.shape[-1] ** -0.5 @ k_BhSd.transpose(-1, -2)).softmax(-1)
    return weights.to(v_BhSd.dtype) @ v_BhSd


def flops(config: RunConfig, drawn: list[Batch]) -> float:
    """Operations of a step on each batch; see :mod:`bootleg_training.engine.flops`."""
    return sum(
        len(batch.images_BHWC)
        * image_flops(config, visible=batch.visible_BV.shape[1], rectangle=batch.rectangles_BMT.shape[2]).total
        for batch in drawn
    )


def matmul_rate(device: torch.device) -> float:
    """Operations a second in one large bf16 matrix product."""
    side, times = MATMUL[device.type], 3 if device.type == "cpu" else 20
    a, b = (torch.randn(side, side, device=device, dtype=torch.bfloat16) for _ in range(2))

    def run() -> None:
        for _ in range(times):
            a @ b

    return times * 2 * side**3 / seconds(run, device)


if __name__ == "__main__":
    main()
