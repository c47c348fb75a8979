"""A whole training step with attention as it is and with the fused kernel, in turn, on the same batch.

    python -m benchmarks.training_step [--preset nano] [--rounds 7]

Writes ``results/training.json``. Ratios are taken round by round; medians are reported.
"""

from __future__ import annotations

import argparse
import statistics
import time
from typing import TYPE_CHECKING
from unittest import mock

import torch
from torch.nn import functional as F  # noqa: N812

from benchmarks.result import write_result
from bootleg_bundle.preprocess import PreprocessSpec
from bootleg_export.samples import natural_noise
from bootleg_training import vit
from bootleg_training.data.pack import Pack
from bootleg_training.engine.loop import Batch, load_batch
from bootleg_training.engine.optimiser import build_optimiser, update
from bootleg_training.engine.schedule import rates
from bootleg_training.objective import Bootleg
from bootleg_training.presets import PRESETS

if TYPE_CHECKING:
    from collections.abc import Callable

    from bootleg_training.config import RunConfig

CPU = torch.device("cpu")


def main() -> None:
    """Measure and write."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--preset", default="nano", choices=list(PRESETS))
    parser.add_argument("--rounds", type=int, default=7)
    arguments = parser.parse_args()
    config = PRESETS[arguments.preset].resolved()
    size = config.encoder.image_size
    spec = PreprocessSpec(height=size, width=size)
    pack = Pack(natural_noise(config.batch_size, size, size), None, (), "generated", "generated", spec)
    batch = load_batch(config, pack, spec, 0, CPU)
    step = stepper(config, batch)
    arms = {"attention written out": vit.attend, "fused attention": F.scaled_dot_product_attention}
    seconds: dict[str, list[float]] = {name: [] for name in arms}
    for attend in arms.values():
        timed(step, attend)
    for _ in range(arguments.rounds):
        for name, attend in arms.items():
            seconds[name].append(timed(step, attend))
    base = seconds["fused attention"]
    rows = [
        {
            "step": name,
            "encoder": f"{config.encoder.label} at {size} px",
            "device": "cpu",
            "batch": config.batch_size,
            "images_per_s": round(config.batch_size / statistics.median(times), 1),
            "ratio": round(statistics.median(b / t for b, t in zip(base, times, strict=True)), 3),
        }
        for name, times in seconds.items()
    ]
    print(write_result("training", rows))


def stepper(config: RunConfig, batch: Batch) -> Callable[[], None]:
    """One optimiser step, as the loop takes it."""
    torch.manual_seed(0)
    model = Bootleg(config)
    optimiser = build_optimiser(model, config.optim)
    now = rates(config, config.steps // 2)

    def step() -> None:
        with torch.autocast("cpu", torch.bfloat16):
            loss = model(batch.images_BHWC, batch.visible_BV, batch.rectangles_BMT)
        loss.total.backward()
        _, taken = update(optimiser, loss.total, now, config.optim.clip)
        model.update_teacher(now.momentum, taken)

    return step


def timed(step: Callable[[], None], attend: Callable[..., torch.Tensor]) -> float:
    """Seconds of one step with the given attention."""
    with mock.patch.object(vit, "attend", attend):
        begun = time.perf_counter()
        step()
        return time.perf_counter() - begun


if __name__ == "__main__":
    main()
