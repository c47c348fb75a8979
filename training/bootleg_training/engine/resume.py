"""Going on with a run: its newest state, read back into model and optimiser.

The loop calls it before the first step. A state that cannot be used is an error that says which other there is; a run
never starts over in silence.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import torch
from pydantic import BaseModel, ConfigDict, Field
from safetensors import SafetensorError
from safetensors.torch import load_file

from bootleg_bundle.errors import CheckpointError
from bootleg_training.config import RunConfig
from bootleg_training.engine.optimiser import trained_parameters
from bootleg_training.engine.progress import Progress
from bootleg_training.engine.shards import like
from bootleg_training.engine.state import MOMENTS, POINTER, STATES

if TYPE_CHECKING:
    from pathlib import Path

    from torch import Tensor

    from bootleg_training.objective import Bootleg

FREE_TO_CHANGE = frozenset({"log_every", "probe_every", "save_every", "name", "compile", "accumulate"})
"""Settings that change nothing that is computed, or its rounding only."""

SHAPES = frozenset({"encoder", "predictor", "target"})
"""Settings that decide which tensors there are."""


class _Record(BaseModel):
    """``state.json``."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    config: RunConfig
    step: int = Field(ge=0)
    images: int | None = Field(None, ge=0)  # the first states had none
    seconds: float = Field(ge=0)
    skipped_steps: int = Field(ge=0)


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
    source, notes = _newest(folder)
    if source is None:
        return None
    try:
        record = _Record.model_validate_json((source / "state.json").read_bytes())
        tensors = load_file(source / "state.safetensors")
    except (OSError, ValueError, SafetensorError) as error:
        raise CheckpointError(f"the resume state {source} cannot be read{_others(source)}") from error
    saved = record.config
    notes += _compare(saved, config, allow)
    wanted = _wanted(model)
    fits = {name for name, shape in wanted.items() if name in tensors and tuple(tensors[name].shape) == shape}
    if fits != set(wanted) or len(tensors) != len(wanted):
        if not allow & SHAPES:
            raise CheckpointError(f"the resume state {source} does not hold the tensors of this model")
        notes.append(f"{len(wanted) - len(fits)} of {len(wanted)} tensors are new, the state has none of their shape")
    _load(model, optimiser, {name: tensors[name] for name in fits})
    images = record.step * saved.batch_size if record.images is None else record.images
    return Progress(record.step, images, record.seconds, record.skipped_steps), notes


def _newest(folder: Path) -> tuple[Path | None, list[str]]:
    """The state to resume from, as the pointer says; failing that, the last one, with a note that says so."""
    pointer = folder / POINTER
    try:
        name = pointer.read_text(encoding="ascii").strip()
    except FileNotFoundError:
        states = sorted(folder.glob(STATES))
        return (states[-1], [f"{pointer} is missing: took {states[-1].name}"]) if states else (None, [])
    except ValueError:
        name = ""
    if not re.fullmatch(r"step-\d+", name):
        raise CheckpointError(f"{pointer} names no state{_others(folder / 'none')}")
    return folder / name, []


def _others(source: Path) -> str:
    """Which states there are beside one that cannot be used."""
    names = sorted(state.name for state in source.parent.glob(STATES) if state != source)
    return f"; to go on from {names[-1]}, write that name into {source.parent / POINTER}" if names else ""


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
