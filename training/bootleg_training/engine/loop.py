"""The pretraining loop: from a resolved configuration and images to a checkpoint. Two hops to the step.

Everything random is a pure function of (seed, step), so an interrupted run resumes to the same
weights, bit for bit on the CPU. SIGTERM and SIGINT save the state and leave with their own code.
"""

from __future__ import annotations

import gc
import json
import signal
import time
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from bootleg_bundle.errors import DataError, DivergedError
from bootleg_bundle.preprocess import PreprocessSpec
from bootleg_training import provenance
from bootleg_training.data.feed import choose_mode
from bootleg_training.engine.batch import batches
from bootleg_training.engine.divergence import save_reproduction
from bootleg_training.engine.finish import write_run_checkpoint
from bootleg_training.engine.initial import initialise_from
from bootleg_training.engine.progress import Progress
from bootleg_training.engine.schedule import rates
from bootleg_training.engine.state import load_state, save_state
from bootleg_training.engine.trainer import Trainer
from bootleg_training.engine.world import World
from bootleg_training.health.monitor import Monitor
from bootleg_training.progress import meter
from bootleg_training.track.runlog import RunLog, measured_step
from bootleg_training.track.trackers import open_tracker

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import FrameType

    from torch import Tensor

    from bootleg_training.config import RunConfig
    from bootleg_training.data.feed import Mode
    from bootleg_training.data.pack import Pack
    from bootleg_training.engine.batch import Batch

INTERRUPTED = 75
"""Exit code of a run that was asked to stop and saved its state (EX_TEMPFAIL): start it again to go on."""

MAX_BAD_STEPS = 10


class Interrupted(Exception):  # noqa: N818  # not an error: the state is saved
    """The run was asked to stop and saved its state."""


@dataclass(frozen=True)
class Options:
    """How a run is carried out; none of it changes what is computed.

    Attributes:
        data_path: where the images are, for the record.
        mode: how images are read; see :mod:`bootleg_training.data.feed`.
        sharded: FSDP2 instead of DDP; None: for models of a billion parameters and more.
        trackers: names known to :func:`bootleg_training.track.trackers.open_tracker`.
        init: a checkpoint to begin from, where no state is resumed.
        allow: settings that a resumed run, or one begun from a checkpoint, may have changed.
        keep: resume states to keep.
    """

    data_path: Path | None = None
    mode: Mode = "auto"
    sharded: bool | None = None
    trackers: tuple[str, ...] = ()
    init: Path | None = None
    allow: frozenset[str] = frozenset()
    keep: int = 2


def train(
    config: RunConfig,
    pack: Pack,
    out: Path,
    *,
    device: torch.device,
    world: World = World(),  # noqa: B008  # frozen
    options: Options = Options(),  # frozen
) -> Path:
    """Pretrain and write ``out/checkpoint``; resume from ``out/state`` when there is one.

    Args:
        config: the run's settings.
        pack: its images; labels, if any, are used for monitoring only.
        out: run folder: ``config.json``, ``began.json``, ``metrics.jsonl``, ``state/``, ``checkpoint/``.
        device: where to compute.
        world: the processes of the run; the leading one writes.
        options: how to carry it out.

    Returns:
        The checkpoint's directory.

    Raises:
        Interrupted: SIGTERM or SIGINT arrived; the state is saved.
        DataError: the pack has fewer images than a batch, smaller ones than the encoder takes, or is not the one the
            run began with; or too many images are corrupt.
        CheckpointError: the run in ``out`` has other settings, or the checkpoint to begin from does not fit.
        ConfigError: the batch cannot be cut evenly over processes and micro-batches.
        DivergedError: too many non-finite steps in a row; ``out/diverged`` reproduces the last of them.
    """
    config = config.resolved()
    check_pack(config, pack)
    # ---- build -------------------------------------------------------------------------------------------------
    trainer = Trainer(config, device, world, sharded=options.sharded)
    spec = PreprocessSpec(height=config.encoder.image_size, width=config.encoder.image_size)
    if world.leads:
        out.mkdir(parents=True, exist_ok=True)
    loaded = load_state(out / "state", trainer.model, trainer.optimiser, config, allow=options.allow)
    progress, notes = loaded or (Progress(), _begin_from(trainer, options))
    began = _begin(out, config, pack, device, resumed=loaded is not None, options=options, world=world)
    reading, why = choose_mode(pack, device, options.mode)
    stop = _StopOnSignal()
    bad = _BadSteps(progress.skipped_steps, device)
    # ---- steps -------------------------------------------------------------------------------------------------
    with (
        stop,
        _collector_at_rest(),
        meter("train", config.steps, done=progress.step) if world.leads else nullcontext(_Silent()) as shown,
        _open_log(out, config, progress, options, world) as log,
    ):
        monitor = Monitor(log, pack, spec, config)
        about = describe(config, began["hardware"], world.size)
        shown.say(f"{about}; {len(pack.images):,} images of {pack.name}")
        shown.say(f"images are {reading}: {why}")
        for note in notes:
            shown.say(note)
        if progress.step:
            shown.say(f"resumed at step {progress.step}")
        else:
            shown.say(monitor.start(trainer.model))
        clock = _Clock(progress)
        source = batches(config, pack, spec, device, begin=progress, world=world, mode=reading)
        while progress.images < config.images:
            now = rates(config, progress.images)
            batch = clock.waiting_for(source)
            step = trainer.step(batch, now)
            bad.count(step.taken)
            progress = progress.after(config.batch_size)
            last = progress.images >= config.images
            stopping = stop.asked and world.size == 1
            if last or progress.step % config.log_every == 0:
                _check_bad_steps(bad, trainer, batch, progress, out)
                measured = measured_step(step.loss, step.grad_norm, bad.skipped)
                note = log.step(progress.step, progress.images, clock.seconds, now, measured, clock.lap(progress))
                shown.update(progress.step, note)
                gc.collect(1)
                stopping = world.any(flag=stop.asked, device=device)  # one process must not leave the others waiting
            if last or progress.step % config.probe_every == 0:
                shown.say(monitor.check(progress.step, trainer.model))
            if last or stopping or progress.step % config.save_every == 0:
                progress = progress.at(clock.seconds, int(bad.skipped))
                state = (trainer.model, trainer.optimiser, config, progress)
                save_state(out / "state", *state, keep=options.keep, world=world)
            if stopping:
                raise Interrupted(
                    f"stopped after step {progress.step} of {config.steps}; the state is saved in {out / 'state'}"
                )
    # ---- checkpoint --------------------------------------------------------------------------------------------
    return write_run_checkpoint(out / "checkpoint", trainer, spec, began, progress)


def _begin_from(trainer: Trainer, options: Options) -> list[str]:
    """Load the checkpoint to begin from, if one was named."""
    return [] if options.init is None else initialise_from(trainer.model, options.init, allow=options.allow)


def check_pack(config: RunConfig, pack: Pack) -> None:
    """Refuse images that cannot make a batch of this run.

    Raises:
        DataError: fewer than a batch, or smaller than the encoder's input.
    """
    if len(pack.images) < config.batch_size:
        raise DataError(f"batch_size is {config.batch_size}, but the pack has {len(pack.images)} images only")
    if pack.side < config.encoder.image_size:
        raise DataError(
            f"the pack's images have {pack.side} pixels a side, the encoder takes {config.encoder.image_size}: "
            f"prepare the data with --size {config.encoder.image_size}"
        )


def describe(config: RunConfig, hardware: str, processes: int) -> str:
    """A run in one line: its name, shape, length and place; the run and its plan begin with it."""
    shape = f"{config.encoder.label} at {config.encoder.image_size} px"
    length = f"{config.steps:,} steps of {config.batch_size}"
    place = hardware if processes == 1 else f"{processes} processes, each on {hardware}"
    return f"{config.name}: {shape}, {length} on {place}"


def _begin(
    out: Path,
    config: RunConfig,
    pack: Pack,
    device: torch.device,
    *,
    resumed: bool,
    options: Options,
    world: World,
) -> dict[str, Any]:
    """What the run began with: data, code and machine. A resumed run must see the same data."""
    path = out / "began.json"
    data = {"name": pack.name, "images": len(pack.images), "side": pack.side, "fingerprint": pack.fingerprint}
    if resumed and path.is_file():
        began: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        if {key: began["data"][key] for key in data} != data:
            raise DataError(
                f"the run began with the pack {began['data']['name']}, fingerprint "
                f"{began['data']['fingerprint'][:12]}; this one is {pack.name}, {pack.fingerprint[:12]}"
            )
    else:
        began = {
            "data": data | ({} if options.data_path is None else {"path": str(options.data_path.resolve())}),
            "init": None if options.init is None else options.init.name,
            "commit": provenance.commit(),
            "hardware": provenance.hardware(device),
            "processes": world.size,
            "versions": provenance.versions(),
        }
    if world.leads:
        path.write_text(json.dumps(began, indent=2) + "\n", encoding="utf-8")
        settings = json.dumps(config.model_dump(mode="json"), indent=2) + "\n"
        (out / "config.json").write_text(settings, encoding="utf-8")
    return began


def _open_log(out: Path, config: RunConfig, progress: Progress, options: Options, world: World) -> RunLog:
    if not world.leads:
        return RunLog(Path("/dev/null"))
    trackers = tuple(open_tracker(name, out, config) for name in options.trackers)
    return RunLog(out / "metrics.jsonl", from_step=progress.step, trackers=trackers)


class _BadSteps:
    """Counts of steps that were not taken, kept on the device."""

    def __init__(self, skipped: int, device: torch.device) -> None:
        self._row = torch.zeros((), device=device)
        self._longest_row = torch.zeros((), device=device)
        self.skipped = torch.full((), float(skipped), device=device)

    def count(self, taken: Tensor) -> None:
        self._row = (self._row + 1) * (1 - taken)
        self._longest_row = torch.maximum(self._longest_row, self._row)
        self.skipped = self.skipped + 1 - taken

    def longest_row(self) -> int:
        """Since the last call; waits for the device."""
        longest = int(self._longest_row)
        self._longest_row = torch.zeros_like(self._row)
        return longest


def _check_bad_steps(bad: _BadSteps, trainer: Trainer, batch: Batch, progress: Progress, out: Path) -> None:
    row = bad.longest_row()
    if row < MAX_BAD_STEPS:
        return
    kept = save_reproduction(out / "diverged", trainer, batch, progress)
    raise DivergedError(
        f"{row} steps in a row had a non-finite loss or gradient (seen at step {progress.step}); the weights are "
        f"those of the last good step. `bootleg replay {kept}` names the first module at fault. "
        "Lower optim.base_lr or use precision fp32"
    )


class _Silent:
    """The display of a process that does not lead."""

    def update(self, done: int, note: str = "") -> None:
        """Show nothing."""

    def say(self, line: str) -> None:
        """Print nothing."""


class _Clock:
    """Seconds of the run, interruptions left out, and how many of them were spent waiting for images."""

    def __init__(self, progress: Progress) -> None:
        self._begun = time.monotonic() - progress.seconds
        self._lap = (time.monotonic(), progress.images)
        self._waited = 0.0

    @property
    def seconds(self) -> float:
        return time.monotonic() - self._begun

    def waiting_for(self, source: Iterator[Batch]) -> Batch:
        begun = time.monotonic()
        batch = next(source)
        self._waited += time.monotonic() - begun
        return batch

    def lap(self, progress: Progress) -> dict[str, float]:
        """Throughput, and the share of the time spent waiting for images, since the last lap."""
        now, (before, images) = time.monotonic(), self._lap
        passed = max(now - before, 1e-9)
        timing = {
            "images_per_s": round((progress.images - images) / passed, 2),
            "data_wait": round(self._waited / passed, 4),
        }
        self._lap, self._waited = (now, progress.images), 0.0
        return timing


@contextmanager
def _collector_at_rest() -> Iterator[None]:
    """No pauses of Python's garbage collector between log points: they differ from process to process."""
    gc.collect()
    gc.freeze()
    gc.disable()
    try:
        yield
    finally:
        gc.enable()
        gc.unfreeze()


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
