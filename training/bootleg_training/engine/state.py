"""Resume state: all that an interrupted run needs to go on as if it had not been.

Masks, crops and sample order are pure functions of (seed, step), so the state is tensors and a
position; there are no random states to save. Tensors are saved whole, whatever the number of processes
and however they cut the model, so a state crosses between them. Written under a new name, flushed,
renamed, and only then named by the small pointer file ``latest``: a crash at any moment leaves a
loadable state.
"""

from __future__ import annotations

import json
import os
import shutil
from typing import TYPE_CHECKING

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from bootleg_bundle.errors import CheckpointError
from bootleg_training.checkpoint import flush
from bootleg_training.config import RunConfig
from bootleg_training.engine.optimiser import trained_parameters
from bootleg_training.engine.progress import Progress
from bootleg_training.engine.shards import like, whole
from bootleg_training.engine.world import World

if TYPE_CHECKING:
    from pathlib import Path

    from torch import Tensor

    from bootleg_training.objective import Bootleg

POINTER = "latest"
MOMENTS = ("exp_avg", "exp_avg_sq")
FREE_TO_CHANGE = frozenset({"log_every", "probe_every", "save_every", "name", "compile", "accumulate"})
"""Settings that change nothing that is computed, or its rounding only."""

SHAPES = frozenset({"encoder", "predictor", "target"})
"""Settings that decide which tensors there are."""


def save_state(
    folder: Path,
    model: Bootleg,
    optimiser: torch.optim.Optimizer,
    config: RunConfig,
    progress: Progress,
    *,
    keep: int = 2,
    world: World = World(),  # noqa: B008  # frozen
) -> Path:
    """Save the state after ``progress.step`` steps and forget all but the newest ``keep``; every process must call."""
    target = folder / f"step-{progress.step:09d}"
    tensors = _gather(model, optimiser, keep=world.leads)
    if world.leads:
        _write(target, tensors, {"config": config.model_dump(mode="json"), **progress.__dict__})
        _forget(folder, target, keep)
    world.wait()
    return target


def _gather(model: Bootleg, optimiser: torch.optim.Optimizer, *, keep: bool) -> dict[str, Tensor]:
    """Whole tensors on the host, one after the other, so that a card never holds two of them."""
    tensors: dict[str, Tensor] = {}

    def put(name: str, tensor: Tensor) -> None:
        full = whole(tensor)
        if keep:
            tensors[name] = full.cpu().contiguous()

    for name, parameter in model.named_parameters():
        put(f"model.{name}", parameter)
    for name, parameter in trained_parameters(model).items():
        for moment in MOMENTS:
            put(f"{moment}.{name}", optimiser.state[parameter][moment])
    put("updates", optimiser.state[next(iter(trained_parameters(model).values()))]["step"])
    return tensors


def _write(target: Path, tensors: dict[str, Tensor], record: dict[str, object]) -> None:
    folder = target.parent
    partial = folder / f"{target.name}.partial"
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    save_file(tensors, partial / "state.safetensors")
    flush(partial / "state.safetensors")
    (partial / "state.json").write_text(json.dumps(record, indent=2), encoding="utf-8")
    flush(partial / "state.json")
    flush(partial)
    shutil.rmtree(target, ignore_errors=True)
    partial.rename(target)
    flush(folder)
    pointer = folder / f"{POINTER}.partial"
    pointer.write_text(target.name, encoding="utf-8")
    flush(pointer)
    os.replace(pointer, folder / POINTER)  # noqa: PTH105  # the atomic rename is the point
    flush(folder)


def _forget(folder: Path, newest: Path, keep: int) -> None:
    earlier = sorted(state for state in folder.glob("step-*[0-9]") if state.name < newest.name)
    later = [state for state in folder.glob("step-*[0-9]") if state.name > newest.name]  # of a run that is no more
    for old in [*earlier[: len(earlier) - keep + 1], *later]:
        shutil.rmtree(old)


def load_state(
    folder: Path,
    model: Bootleg,
    optimiser: torch.optim.Optimizer,
    config: RunConfig,
    *,
    allow: frozenset[str] = frozenset(),
) -> tuple[Progress, list[str]] | None:
    """Load the newest state into model and optimiser.

    Args:
        folder: the run's ``state`` folder.
        model: of the same settings; whole or sharded.
        optimiser: of the model.
        config: resolved settings.
        allow: settings that may have changed. Of changed shapes, what still fits is loaded and the rest stays new.

    Returns:
        Where the run stands, and notes for its log; None when there is no state.

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
    notes = _compare(saved, config, allow)
    wanted = _wanted(model)
    fits = {name for name, shape in wanted.items() if name in tensors and tuple(tensors[name].shape) == shape}
    if fits != set(wanted) or len(tensors) != len(wanted):
        if not allow & SHAPES:
            raise CheckpointError(f"the resume state {source} does not hold the tensors of this model")
        notes.append(f"{len(wanted) - len(fits)} of {len(wanted)} tensors are new, the state has none of their shape")
    _load(model, optimiser, {name: tensors[name] for name in fits})
    images = record.get("images", record["step"] * saved.batch_size)
    return Progress(record["step"], images, record["seconds"], record["skipped_steps"]), notes


def _wanted(model: Bootleg) -> dict[str, tuple[int, ...]]:
    """The tensors of a state and their shapes."""
    wanted = {f"model.{name}": tuple(p.shape) for name, p in model.named_parameters()}
    for name, parameter in trained_parameters(model).items():
        wanted |= {f"{moment}.{name}": tuple(parameter.shape) for moment in MOMENTS}
    return wanted | {"updates": ()}


def _load(model: Bootleg, optimiser: torch.optim.Optimizer, tensors: dict[str, Tensor]) -> None:
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if f"model.{name}" in tensors:
                parameter.copy_(like(tensors[f"model.{name}"], parameter))
    for name, parameter in trained_parameters(model).items():
        optimiser.state[parameter] = {
            "step": tensors["updates"].clone().to(parameter.device),
            **{
                moment: like(tensors[f"{moment}.{name}"], parameter)
                if f"{moment}.{name}" in tensors
                else torch.zeros_like(parameter)
                for moment in MOMENTS
            },
        }


def _compare(saved: RunConfig, config: RunConfig, allow: frozenset[str]) -> list[str]:
    """Notes on settings that were changed and may be; refuse the others."""
    before, now = saved.model_dump(mode="json"), config.model_dump(mode="json")
    changed = sorted(key for key in now if key not in FREE_TO_CHANGE and before[key] != now[key])
    refused = [key for key in changed if key not in allow]
    if refused:
        was, wants = before[refused[0]], now[refused[0]]
        raise CheckpointError(
            f"the run to resume has other settings in {', '.join(refused)}: {refused[0]} was {was}, now {wants}; "
            f"use the same settings, or another --out, or --allow {refused[0]}"
        )
    return [f"{key} was {before[key]}, now {now[key]}: allowed" for key in changed]
