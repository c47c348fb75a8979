"""Where a training step's time goes, part by part, and what looping over parameters costs instead of one kernel.

``benchmarks.training_step`` calls this. The parts are the functions that ``Trainer.step`` runs, in its order; with a
wait for the device behind each, their sum is a little more than the step's time.
"""

from __future__ import annotations

import statistics
import time
from typing import TYPE_CHECKING, Any

import torch

from bootleg_training.engine.batch import make_batch
from bootleg_training.engine.optimiser import trained_parameters, update
from bootleg_training.engine.schedule import rates
from bootleg_training.objective import regression_loss, select_targets

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Tensor

    from bootleg_bundle.preprocess import PreprocessSpec
    from bootleg_training.engine.trainer import Trainer
    from bootleg_training.objective import Bootleg

Times = dict[str, list[float]]


def wait(device: torch.device) -> None:
    """Until the device has done what it was given."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def seconds(run: Callable[[], Any], device: torch.device) -> float:
    """How long a call takes, from an idle device to an idle device."""
    wait(device)
    begun = time.perf_counter()
    run()
    wait(device)
    return time.perf_counter() - begun


class Stopwatch:
    """Seconds of the laps of one step, by name."""

    def __init__(self, device: torch.device) -> None:
        wait(device)
        self.device = device
        self.laps: dict[str, float] = {}
        self._begun = time.perf_counter()

    def lap(self, name: str) -> None:
        """End a lap, and begin the next."""
        wait(self.device)
        now = time.perf_counter()
        self.laps[name] = now - self._begun
        self._begun = now


def step_in_parts(
    trainer: Trainer, images_BHWC: Tensor, spec: PreprocessSpec, step: int
) -> tuple[dict[str, float], float]:
    """Take one step.

    Returns:
        Seconds by part, in the step's order, and the loss.
    """
    config, model = trainer.config, trainer.model
    now = rates(config, config.images // 2)
    watch = Stopwatch(trainer.device)
    batch = make_batch(config, images_BHWC, spec, step)
    views = config.mask.views
    watch.lap("masks and crop")
    with torch.autocast(trainer.device.type, torch.bfloat16, enabled=config.precision == "bf16"):
        raw_QBND = [z.repeat_interleave(views, dim=0) for z in model.target_features(batch.images_BHWC)]
        watch.lap("teacher forward")
        seen = model.student(batch.images_BHWC.repeat_interleave(views, dim=0), batch.visible_BV)
        watch.lap("student forward")
        predictions = model.predictor(seen.patches, seen.globals, batch.visible_BV, batch.rectangles_BMT).float()
        watch.lap("predictor forward")
        targets = select_targets(raw_QBND, batch.rectangles_BMT, model.config)
        loss = regression_loss(predictions, targets, model.config).mean(dim=(0, 1, 2, 4)).mean()
        watch.lap("targets and loss")
        loss.backward()
        watch.lap("backward")
    _, taken = update(trainer.optimiser, loss, now, config.optim.clip)
    watch.lap("clip and AdamW")
    model.update_teacher(now.momentum, taken)
    watch.lap("EMA")
    return watch.laps, loss.item()


def part_rows(trainer: Trainer, images_BHWC: Tensor, spec: PreprocessSpec, rounds: int, about: dict) -> list[dict]:
    """Rows ``part: ...``: median milliseconds and share of the step."""
    step_in_parts(trainer, images_BHWC, spec, 0)
    measured = [step_in_parts(trainer, images_BHWC, spec, i)[0] for i in range(rounds)]
    return [
        {
            "step": f"part: {name}",
            **about,
            "ms": round(1e3 * statistics.median(laps[name] for laps in measured), 3),
            "share": round(statistics.median(laps[name] / sum(laps.values()) for laps in measured), 4),
        }
        for name in measured[0]
    ]


def update_rows(model: Bootleg, rounds: int, device: torch.device, about: dict) -> list[dict]:
    """Rows ``update: ...``: EMA and AdamW by themselves, in one kernel and parameter by parameter.

    The model is spoilt: its gradients are random.
    """
    keep = torch.ones((), device=device)
    parameters = list(trained_parameters(model).values())
    for parameter in parameters:
        parameter.grad = 1e-3 * torch.randn_like(parameter)
    students, teachers = list(model.student.parameters()), list(model.teacher.parameters())

    @torch.no_grad()
    def loop() -> None:
        for student, teacher in zip(students, teachers, strict=True):
            teacher.mul_(0.999).add_((1.0 - 0.999) * student)

    fused = torch.optim.AdamW(parameters, lr=1e-4, fused=True)
    each = torch.optim.AdamW(parameters, lr=1e-4, foreach=False)
    pairs: dict[str, dict[str, Callable[[], Any]]] = {
        "EMA": {"a loop": loop, "foreach": lambda: model.update_teacher(0.999, keep)},
        "AdamW": {"a loop": each.step, "fused": fused.step},
    }
    rows = []
    for title, ways in pairs.items():
        times: Times = {name: [] for name in ways}
        for taken in range(rounds + 1):
            for name, run in ways.items():
                spent = seconds(run, device)
                if taken:  # the first is warm-up
                    times[name].append(spent)
        base = times["a loop"]
        rows += [
            {
                "step": f"update: {title}, {name}",
                **about,
                "ms": round(1e3 * statistics.median(spent), 4),
                "ratio": round(statistics.median(b / t for b, t in zip(base, spent, strict=True)), 3),
            }
            for name, spent in times.items()
        ]
    return rows
