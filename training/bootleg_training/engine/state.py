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

from bootleg_training.checkpoint import flush, write_tensors
from bootleg_training.engine.optimiser import trained_parameters
from bootleg_training.engine.shards import whole
from bootleg_training.engine.world import World

if TYPE_CHECKING:
    from pathlib import Path

    import torch
    from torch import Tensor

    from bootleg_training.config import RunConfig
    from bootleg_training.engine.progress import Progress
    from bootleg_training.objective import Bootleg

POINTER = "latest"
STATES = "step-*[0-9]"
MOMENTS = ("exp_avg", "exp_avg_sq")


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
    write_tensors(tensors, partial / "state.safetensors")
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
    earlier = sorted(state for state in folder.glob(STATES) if state.name < newest.name)
    later = [state for state in folder.glob(STATES) if state.name > newest.name]  # of a run that is no more
    for old in [*earlier[: len(earlier) - keep + 1], *later, *folder.glob("step-*.partial")]:
        shutil.rmtree(old)
