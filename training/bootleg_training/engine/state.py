"""Resume state: all that an interrupted run needs to go on as if it had not been.

Masks, crops and sample order are pure functions of (seed, step), so the state is tensors and a step
number; there are no random states to save. Written under a new name, flushed, renamed, and only
then named by the small pointer file ``latest``: a crash at any moment leaves a loadable state.
"""

from __future__ import annotations

import json
import os
import shutil
from dataclasses import dataclass
from typing import TYPE_CHECKING

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from bootleg_bundle.errors import CheckpointError
from bootleg_training.checkpoint import flush
from bootleg_training.config import RunConfig
from bootleg_training.engine.optimiser import trained_parameters

if TYPE_CHECKING:
    from pathlib import Path

    import torch

    from bootleg_training.objective import Bootleg

POINTER = "latest"
MOMENTS = ("exp_avg", "exp_avg_sq")
FREE_TO_CHANGE = {"log_every", "probe_every", "save_every", "name"}


@dataclass(frozen=True)
class Progress:
    """Where a run stands."""

    step: int
    seconds: float
    skipped_steps: int


def save_state(
    folder: Path,
    model: Bootleg,
    optimiser: torch.optim.Optimizer,
    config: RunConfig,
    progress: Progress,
    *,
    keep: int = 2,
) -> Path:
    """Save the state after ``progress.step`` steps and forget all but the newest ``keep``."""
    target = folder / f"step-{progress.step:09d}"
    partial = folder / f"{target.name}.partial"
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    tensors = {f"model.{name}": p.detach() for name, p in model.named_parameters()}
    for name, parameter in trained_parameters(model).items():
        for moment in MOMENTS:
            tensors[f"{moment}.{name}"] = optimiser.state[parameter][moment]
    tensors["updates"] = optimiser.state[next(iter(trained_parameters(model).values()))]["step"]
    save_file({name: tensor.cpu().contiguous() for name, tensor in tensors.items()}, partial / "state.safetensors")
    flush(partial / "state.safetensors")
    record = {"config": config.model_dump(mode="json"), **progress.__dict__}
    (partial / "state.json").write_text(json.dumps(record, indent=2), encoding="utf-8")
    flush(partial / "state.json")
    shutil.rmtree(target, ignore_errors=True)
    partial.rename(target)
    pointer = folder / f"{POINTER}.partial"
    pointer.write_text(target.name, encoding="utf-8")
    flush(pointer)
    os.replace(pointer, folder / POINTER)  # noqa: PTH105  # the atomic rename is the point
    flush(folder)
    earlier = sorted(state for state in folder.glob("step-*[0-9]") if state.name < target.name)
    later = [state for state in folder.glob("step-*[0-9]") if state.name > target.name]  # of a run that is no more
    for old in [*earlier[: len(earlier) - keep + 1], *later]:
        shutil.rmtree(old)
    return target


def load_state(folder: Path, model: Bootleg, optimiser: torch.optim.Optimizer, config: RunConfig) -> Progress | None:
    """Load the newest state into model and optimiser; None when there is none.

    Raises:
        CheckpointError: the state belongs to other settings, or cannot be read.
    """
    pointer = folder / POINTER
    if not pointer.is_file():
        return None
    source = folder / pointer.read_text(encoding="utf-8").strip()
    try:
        record = json.loads((source / "state.json").read_text(encoding="utf-8"))
        saved = RunConfig.model_validate(record["config"])
        tensors = load_file(source / "state.safetensors")
    except (OSError, ValueError, KeyError, SafetensorError) as error:
        raise CheckpointError(f"the resume state {source} cannot be read") from error
    _refuse_other_settings(saved, config)
    parameters = dict(model.named_parameters())
    wanted = {f"model.{name}" for name in parameters}
    wanted |= {f"{moment}.{name}" for name in trained_parameters(model) for moment in MOMENTS}
    if wanted | {"updates"} != set(tensors):
        raise CheckpointError(f"the resume state {source} does not hold the tensors of this model")
    for name, parameter in parameters.items():
        parameter.data.copy_(tensors[f"model.{name}"])
    for name, parameter in trained_parameters(model).items():
        optimiser.state[parameter] = {
            "step": tensors["updates"].clone().to(parameter.device),
            **{moment: tensors[f"{moment}.{name}"].to(parameter.device) for moment in MOMENTS},
        }
    return Progress(record["step"], record["seconds"], record["skipped_steps"])


def _refuse_other_settings(saved: RunConfig, config: RunConfig) -> None:
    before, now = saved.model_dump(mode="json"), config.model_dump(mode="json")
    changed = sorted(key for key in now if key not in FREE_TO_CHANGE and before[key] != now[key])
    if changed:
        was, wants = before[changed[0]], now[changed[0]]
        raise CheckpointError(
            f"the run to resume has other settings in {', '.join(changed)}: {changed[0]} was {was}, now {wants}; "
            "use the same settings, or another --out"
        )
