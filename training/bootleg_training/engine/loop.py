"""The pretraining loop: from a resolved configuration and images to a checkpoint. Two hops to the step.

Everything random is a pure function of (seed, step), so an interrupted run resumes to the same
weights, bit for bit on the CPU. SIGTERM and SIGINT save the state and leave with their own code.
"""

from __future__ import annotations

import gc
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from bootleg_bundle.errors import DivergedError
from bootleg_bundle.preprocess import PreprocessSpec
from bootleg_training.data.feed import choose_mode
from bootleg_training.data.memory import held_memory
from bootleg_training.engine.bad_steps import BadSteps
from bootleg_training.engine.batch import batches
from bootleg_training.engine.begin import (
    beginning,
    check_folder,
    check_pack,
    describe,
    read_beginning,
    write_beginning,
)
from bootleg_training.engine.claim import claimed
from bootleg_training.engine.clock import Clock
from bootleg_training.engine.finish import write_run_checkpoint
from bootleg_training.engine.initial import initialise_from
from bootleg_training.engine.progress import Progress
from bootleg_training.engine.resume import load_state
from bootleg_training.engine.schedule import rates
from bootleg_training.engine.state import save_state
from bootleg_training.engine.stop import Interrupted, StopOnSignal
from bootleg_training.engine.trainer import Trainer
from bootleg_training.engine.world import World
from bootleg_training.health.monitor import Monitor
from bootleg_training.progress import Silent, meter
from bootleg_training.track.runlog import RunLog, measured_step
from bootleg_training.track.trackers import open_tracker

if TYPE_CHECKING:
    from collections.abc import Iterator
    from contextlib import AbstractContextManager

    import torch

    from bootleg_training.config import RunConfig
    from bootleg_training.data.feed import Mode
    from bootleg_training.data.pack import Pack
    from bootleg_training.progress import Meter


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
        ConfigError: the batch cannot be cut evenly over processes and micro-batches; ``out`` is something else than a
            run folder, or another process trains in it.
        DivergedError: too many non-finite steps in a row, and ``out/diverged`` reproduces the last of them; or the
            run ended with weights that are not finite.
    """
    config = config.resolved()
    check_pack(config, pack)
    check_folder(out, options.data_path)
    if not world.leads:
        return _train(config, pack, out, device=device, world=world, options=options)
    out.mkdir(parents=True, exist_ok=True)
    with claimed(out):
        return _train(config, pack, out, device=device, world=world, options=options)


def _train(config: RunConfig, pack: Pack, out: Path, *, device: torch.device, world: World, options: Options) -> Path:
    # ---- build -------------------------------------------------------------------------------------------------
    trainer = Trainer(config, device, world, sharded=options.sharded)
    spec = PreprocessSpec(height=config.encoder.image_size, width=config.encoder.image_size)
    progress, notes = _start(trainer, out, options)
    began = (read_beginning(out, pack) if progress.step else None) or beginning(
        pack, device, data_path=options.data_path, init=options.init, processes=world.size
    )
    if world.leads:
        write_beginning(out, began, config)
    reading, why = choose_mode(pack, device, options.mode)
    stop = StopOnSignal()
    bad = BadSteps(progress.skipped_steps, device)
    # ---- steps -------------------------------------------------------------------------------------------------
    with (
        stop,
        _collector_at_rest(),
        _display(config, progress, world) as shown,
        _open_log(out, config, progress, options, world) as log,
    ):
        monitor = Monitor(log, pack, spec, config)
        about = describe(config, began["hardware"], world.size)
        shown.say(f"{about}; {len(pack.images):,} images of {pack.name}")
        shown.say(f"reading {reading}: {why}")
        for note in notes:
            shown.say(note)
        if progress.step:
            shown.say(f"resumed at step {progress.step}")
        else:
            shown.say(monitor.start(trainer.model))
        clock = Clock(progress)
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
                bad.check(trainer, batch, progress, out)
                measured = measured_step(step.loss, step.grad_norm, bad.skipped)
                note = log.step(progress.step, progress.images, clock.seconds, now, measured, _machine(clock, progress))
                shown.update(progress.step, note)
                gc.collect(1)
                stopping = world.any(flag=stop.asked, device=device)  # one process must not leave the others waiting
            if last or progress.step % config.probe_every == 0:
                shown.say(monitor.check(progress.step, trainer.model))
                if last and not monitor.sound:
                    raise DivergedError(
                        f"after step {progress.step} the encoder's features are not finite: no checkpoint is written. "
                        "Lower optim.base_lr or use precision fp32, and begin anew in another folder"
                    )
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


def _start(trainer: Trainer, out: Path, options: Options) -> tuple[Progress, list[str]]:
    """Load the run's newest state, or the checkpoint to begin from if one was named; where it stands, and notes."""
    loaded = load_state(out / "state", trainer.model, trainer.optimiser, trainer.config, allow=options.allow)
    if loaded is None:
        init = options.init
        return Progress(), [] if init is None else initialise_from(trainer.model, init, allow=options.allow)
    progress, notes = loaded
    unread = [] if options.init is None else [f"--init {options.init} is not read: the run goes on from its own state"]
    return progress, [*notes, *unread]


def _display(config: RunConfig, progress: Progress, world: World) -> AbstractContextManager[Meter]:
    return meter("train", config.steps, done=progress.step) if world.leads else nullcontext(Silent())


def _machine(clock: Clock, progress: Progress) -> dict[str, float]:
    """Throughput and waiting since the last log line, and what the process holds in memory."""
    held = held_memory()
    return clock.lap(progress) | ({} if held is None else {"memory": held})


def _open_log(out: Path, config: RunConfig, progress: Progress, options: Options, world: World) -> RunLog:
    if not world.leads:
        return RunLog(Path("/dev/null"))
    trackers = tuple(open_tracker(name, out, config, from_step=progress.step) for name in options.trackers)
    return RunLog(out / "metrics.jsonl", from_step=progress.step, trackers=trackers)


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
