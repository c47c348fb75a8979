"""The pretraining loop: from a resolved configuration and a pack to a checkpoint. Two hops to the step.

Everything random is a pure function of (seed, step), so an interrupted run resumes to the same
weights, bit for bit on the CPU. SIGTERM and SIGINT save the state and leave with their own code.
"""

from __future__ import annotations

import json
import signal
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from bootleg_bundle.errors import DataError, DivergedError
from bootleg_bundle.manifest import Provenance
from bootleg_bundle.preprocess import PreprocessSpec
from bootleg_training import checkpoint, provenance
from bootleg_training.data.augment import crop_and_normalise, random_boxes
from bootleg_training.data.order import sample_indices
from bootleg_training.engine.optimiser import build_optimiser, update
from bootleg_training.engine.schedule import rates
from bootleg_training.engine.state import Progress, load_state, save_state
from bootleg_training.health.monitor import RunLog, knn_check, measured_step
from bootleg_training.masking import sample_masks
from bootleg_training.objective import Bootleg, Loss
from bootleg_training.progress import meter

if TYPE_CHECKING:
    from pathlib import Path
    from types import FrameType

    from bootleg_training.config import RunConfig
    from bootleg_training.data.pack import Pack

INTERRUPTED = 75
"""Exit code of a run that was asked to stop and saved its state (EX_TEMPFAIL): start it again to go on."""

MAX_BAD_STEPS = 10
STREAM = 0
"""Separates masks and crops from the sample order, which draws from the same seed."""


class Interrupted(Exception):  # noqa: N818  # not an error: the state is saved
    """The run was asked to stop and saved its state."""


@dataclass(frozen=True)
class Batch:
    """One step's input, on the device."""

    images_BHWC: Tensor
    visible_BV: Tensor
    rectangles_BMT: Tensor


def train(config: RunConfig, pack: Pack, out: Path, *, device: torch.device) -> Path:
    """Pretrain and write ``out/checkpoint``; resume from ``out/state`` when there is one.

    Args:
        config: the run's settings.
        pack: its images; labels, if any, are used for monitoring only.
        out: run folder: ``config.json``, ``began.json``, ``metrics.jsonl``, ``state/``, ``checkpoint/``.
        device: where to compute.

    Returns:
        The checkpoint's directory.

    Raises:
        Interrupted: SIGTERM or SIGINT arrived; the state is saved.
        DataError: the pack has fewer images than a batch, smaller ones than the encoder takes, or is not the one the
            run began with.
        CheckpointError: the run in ``out`` has other settings.
        DivergedError: too many non-finite steps in a row.
    """
    config = config.resolved()
    _check_pack(config, pack)
    # ---- build -------------------------------------------------------------------------------------------------
    torch.manual_seed(config.seed)
    model = Bootleg(config).to(device)
    optimiser = build_optimiser(model, config.optim)
    spec = PreprocessSpec(height=config.encoder.image_size, width=config.encoder.image_size)
    out.mkdir(parents=True, exist_ok=True)
    progress = load_state(out / "state", model, optimiser, config) or Progress(0, 0.0, 0)
    began = _begin(out / "began.json", pack, device, resumed=progress.step > 0)
    (out / "config.json").write_text(json.dumps(config.model_dump(mode="json"), indent=2) + "\n", encoding="utf-8")
    stop = _StopOnSignal()
    begun = time.monotonic() - progress.seconds
    bad_steps = torch.zeros((), device=device)  # in a row
    worst_bad_steps = torch.zeros((), device=device)  # since the last log point
    skipped = torch.full((), float(progress.skipped_steps), device=device)
    # ---- steps -------------------------------------------------------------------------------------------------
    with (
        stop,
        meter("train", config.steps, done=progress.step) as shown,
        RunLog(out / "metrics.jsonl", from_step=progress.step) as log,
    ):
        shown.say(_describe(config, pack, began["hardware"]))
        if progress.step:
            shown.say(f"resumed at step {progress.step}")
        elif pack.labels is not None:
            shown.say(log.probe(0, "random_init", *knn_check(model.teacher, pack, spec, config)))
        for step in range(progress.step, config.steps):
            now = rates(config, step)
            batch = load_batch(config, pack, spec, step, device)
            with torch.autocast(device.type, torch.bfloat16, enabled=config.precision == "bf16"):
                loss: Loss = model(batch.images_BHWC, batch.visible_BV, batch.rectangles_BMT)
            loss.total.backward()
            norm, taken = update(optimiser, loss.total, now, config.optim.clip)
            model.update_teacher(now.momentum, taken)
            bad_steps = (bad_steps + 1) * (1 - taken)
            worst_bad_steps = torch.maximum(worst_bad_steps, bad_steps)
            skipped += 1 - taken
            done = step + 1
            if done % config.log_every == 0 or done == config.steps:
                _check_bad_steps(worst_bad_steps, step)
                worst_bad_steps = torch.zeros_like(bad_steps)
                seconds, seen = time.monotonic() - begun, done * config.batch_size
                note = log.step(done, seen, seconds, now, measured_step(loss, norm, skipped))
                shown.update(done, note)
            if pack.labels is not None and (done % config.probe_every == 0 or done == config.steps):
                shown.say(log.probe(done, "teacher", *knn_check(model.teacher, pack, spec, config)))
            if done % config.save_every == 0 or done == config.steps or stop.asked:
                progress = Progress(done, time.monotonic() - begun, int(skipped))
                save_state(out / "state", model, optimiser, config, progress)
            if stop.asked:
                raise Interrupted(f"stopped after step {done} of {config.steps}; the state is saved in {out / 'state'}")
    # ---- checkpoint --------------------------------------------------------------------------------------------
    target = out / "checkpoint"
    if not target.exists():
        write_run_checkpoint(target, model, config, spec, began, progress)
    return target


def load_batch(config: RunConfig, pack: Pack, spec: PreprocessSpec, step: int, device: torch.device) -> Batch:
    """The batch of ``step``: a pure function of the configuration, the pack and the step."""
    rng = np.random.default_rng([config.seed, STREAM, step])
    size = config.batch_size
    index = sample_indices(len(pack.images), config.seed, step * size, size)
    images_BHWC = torch.from_numpy(pack.images[index]).to(device, non_blocking=True)
    boxes, flips = random_boxes(config.augment, size, pack.side, pack.side, rng)
    masks = sample_masks(config.mask, config.encoder.grid, size * config.mask.views, rng)
    return Batch(
        crop_and_normalise(images_BHWC, boxes, flips, spec.height, torch.tensor(spec.mean), torch.tensor(spec.std)),
        torch.from_numpy(masks.visible).to(device),
        torch.from_numpy(masks.rectangles).to(device),
    )


def write_run_checkpoint(
    target: Path, model: Bootleg, config: RunConfig, spec: PreprocessSpec, began: dict[str, Any], progress: Progress
) -> None:
    """Write the checkpoint of a run as it stands; ``began`` says what it was made with."""
    weights = {
        "encoder": dict(model.teacher.named_parameters()),
        "student": dict(model.student.named_parameters()),
        "predictor": dict(model.predictor.named_parameters()),
    }
    source = Provenance(
        method="Bootleg (arXiv 2603.15553)",
        dataset=began["data"]["name"],
        dataset_fingerprint=began["data"]["fingerprint"],
        steps=progress.step,
        images_seen=progress.step * config.batch_size,
        training_seconds=round(progress.seconds, 1),
        hardware=began["hardware"],
        commit=began["commit"],
        checkpoint_sha256=checkpoint.weights_sha256(weights["encoder"]),
        versions=began["versions"],
    )
    fields: dict[str, object] = {
        "encoder": config.encoder,
        "target_layers": config.target.layers,
        "preprocess": spec,
        "run": config,
        "provenance": source,
    }
    checkpoint.write_checkpoint(target, weights, fields)


def _check_pack(config: RunConfig, pack: Pack) -> None:
    if len(pack.images) < config.batch_size:
        raise DataError(f"batch_size is {config.batch_size}, but the pack has {len(pack.images)} images only")
    if pack.side < config.encoder.image_size:
        raise DataError(
            f"the pack's images have {pack.side} pixels a side, the encoder takes {config.encoder.image_size}: "
            f"prepare the data with --size {config.encoder.image_size}"
        )


def _describe(config: RunConfig, pack: Pack, hardware: str) -> str:
    encoder = config.encoder
    shape = f"{encoder.label} at {encoder.image_size} px"
    length = f"{config.steps:,} steps of {config.batch_size}"
    return f"{config.name}: {shape}, {length} on {hardware}; {len(pack.images):,} images of {pack.name}"


def _begin(path: Path, pack: Pack, device: torch.device, *, resumed: bool) -> dict[str, Any]:
    """What the run began with: data, code and machine. A resumed run must see the same data."""
    data = {"name": pack.name, "images": len(pack.images), "side": pack.side, "fingerprint": pack.fingerprint}
    if resumed and path.is_file():
        began: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        if began["data"] != data:
            raise DataError(
                f"the run began with the pack {began['data']['name']}, fingerprint "
                f"{began['data']['fingerprint'][:12]}; this one is {pack.name}, {pack.fingerprint[:12]}"
            )
        return began
    began = {
        "data": data,
        "commit": provenance.commit(),
        "hardware": provenance.hardware(device),
        "versions": provenance.versions(),
    }
    path.write_text(json.dumps(began, indent=2) + "\n", encoding="utf-8")
    return began


def _check_bad_steps(bad_steps: Tensor, step: int) -> None:
    if int(bad_steps) >= MAX_BAD_STEPS:
        raise DivergedError(
            f"{int(bad_steps)} steps in a row had a non-finite loss or gradient (seen at step {step}); "
            "the weights are those of the last good step. Lower optim.base_lr or use precision fp32"
        )


class _StopOnSignal:
    """Turns the first SIGTERM or SIGINT into a flag; a second one acts as usual."""

    def __init__(self) -> None:
        self.asked = False
        self._previous: dict[int, object] = {}

    def __enter__(self) -> None:
        for number in (signal.SIGTERM, signal.SIGINT):
            self._previous[number] = signal.signal(number, self._ask)

    def _ask(self, number: int, frame: FrameType | None) -> None:  # noqa: ARG002
        self.asked = True
        signal.signal(number, self._previous[number])  # type: ignore[arg-type]

    def __exit__(self, *_: object) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)  # type: ignore[arg-type]
