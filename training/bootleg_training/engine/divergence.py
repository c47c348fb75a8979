"""When a run diverges: keep what reproduces it, and find the first module at fault.

A step that is not finite changes nothing, so the weights at hand are the ones it was computed with:
saved beside the batch, they reproduce it exactly.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file

from bootleg_bundle.errors import CheckpointError
from bootleg_training.checkpoint import write_tensors
from bootleg_training.config import RunConfig
from bootleg_training.engine.batch import Batch
from bootleg_training.engine.shards import whole
from bootleg_training.objective import Bootleg

if TYPE_CHECKING:
    from pathlib import Path

    from bootleg_training.engine.progress import Progress
    from bootleg_training.engine.trainer import Trainer

BATCH_FIELDS = tuple(Batch.__dataclass_fields__)


@dataclass(frozen=True)
class Finding:
    """What a replay found.

    Attributes:
        loss: of the batch.
        fault: the first module whose output, or the last whose gradient, is not finite; None when all are.
        where: ``forward``, ``backward`` or ``nowhere``.
    """

    loss: float
    fault: str | None
    where: str


def save_reproduction(folder: Path, trainer: Trainer, batch: Batch, progress: Progress) -> Path:
    """Write weights, this process's batch and the settings to ``folder``; every process must call."""
    weights = {f"model.{name}": whole(p).cpu().contiguous() for name, p in trainer.model.named_parameters()}
    if trainer.world.leads:
        folder.mkdir(parents=True, exist_ok=True)
        tensors = {f"batch.{name}": getattr(batch, name).cpu().contiguous() for name in BATCH_FIELDS}
        write_tensors(weights | tensors, folder / "step.safetensors")
        record = {"config": trainer.config.model_dump(mode="json"), **progress.__dict__}
        (folder / "step.json").write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")
    return folder


def replay(folder: Path, device: torch.device, *, precision: str | None = None) -> Finding:
    """Compute the kept step once more and name the first module that is not finite.

    Args:
        folder: ``RUN/diverged``.
        device: where to compute.
        precision: ``bf16`` or ``fp32``; None: the run's. A step that is finite in fp32 only wants fp32.

    Raises:
        CheckpointError: ``folder`` holds no kept step, or a damaged one.
    """
    try:
        config = RunConfig.model_validate(json.loads((folder / "step.json").read_text(encoding="utf-8"))["config"])
        tensors = load_file(folder / "step.safetensors", device=str(device))
    except (OSError, ValueError, KeyError, SafetensorError) as error:
        raise CheckpointError(f"{folder} holds no step of a diverged run that can be read") from error
    model = Bootleg(config).to(device)
    model.load_state_dict({k.removeprefix("model."): v for k, v in tensors.items() if k.startswith("model.")})
    batch = Batch(**{name: tensors[f"batch.{name}"] for name in BATCH_FIELDS})
    faults = _watch(model)
    with torch.autocast(device.type, torch.bfloat16, enabled=(precision or config.precision) == "bf16"):
        loss = model(batch.images_BHWC, batch.visible_BV, batch.rectangles_BMT).total
    if faults:
        return Finding(float(loss.detach()), faults[0], "forward")
    loss.backward()
    bad = [name for name, p in model.named_parameters() if p.grad is not None and not bool(p.grad.isfinite().all())]
    return Finding(float(loss.detach()), bad[-1] if bad else None, "backward" if bad else "nowhere")


def _watch(model: Bootleg) -> list[str]:
    """Names of modules with non-finite outputs, in the order in which they are computed."""
    faults: list[str] = []

    def watch(name: str, module: torch.nn.Module) -> None:
        def look(_: torch.nn.Module, __: object, out: object) -> None:
            if isinstance(out, torch.Tensor) and not bool(out.isfinite().all()):
                faults.append(name)

        module.register_forward_hook(look)

    for name, module in model.named_modules():
        watch(name, module)
    return faults
