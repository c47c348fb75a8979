"""``bootleg train --plan``: will it fit, how fast is it, how long will it take?

A short trial with the run's own trainer and data; it writes no file.
"""

from __future__ import annotations

import gc
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from bootleg_bundle.errors import ConfigError
from bootleg_bundle.preprocess import PreprocessSpec
from bootleg_training import provenance
from bootleg_training.data.memory import free_memory
from bootleg_training.engine.batch import batches
from bootleg_training.engine.begin import check_pack, describe
from bootleg_training.engine.peak import PeakMemory
from bootleg_training.engine.schedule import rates
from bootleg_training.engine.trainer import SHARD_FROM, Trainer
from bootleg_training.engine.trial import Stopwatch, Trial, measure
from bootleg_training.engine.world import World
from bootleg_training.objective import Bootleg
from bootleg_training.progress import meter

if TYPE_CHECKING:
    from bootleg_training.config import RunConfig
    from bootleg_training.data.pack import Pack

FLOAT = 4
"""Bytes; weights, moments and teacher are float32 whatever the precision of the products."""
WAITS = 0.1


@dataclass(frozen=True)
class Plan:
    """What a run will need. Rates and memory are measured, the rest is arithmetic.

    Attributes:
        config: resolved settings that were asked about.
        hardware: each process's.
        processes: of the run.
        data_images: images of the data set.
        encoder_parameters: of the student; the teacher has as many.
        predictor_parameters: of the predictor.
        state_bytes: weights, both moments and the teacher, in each process.
        free_bytes: free on the device before the trial; None where that cannot be told.
        accumulate: micro-batches with which the trial fitted; None if with none.
        trial: what it gave; None if nothing fitted.
        peak_bytes: the most memory in use during the trial; None where that cannot be told.
    """

    config: RunConfig
    hardware: str
    processes: int
    data_images: int
    encoder_parameters: int
    predictor_parameters: int
    state_bytes: int
    free_bytes: int | None
    accumulate: int | None = None
    trial: Trial | None = None
    peak_bytes: int | None = None

    @property
    def fits(self) -> bool:
        """Whether the settings fit as they are."""
        return self.accumulate == self.config.accumulate

    @property
    def epochs(self) -> float:
        """How often the run sees each image."""
        return self.config.images / self.data_images

    @property
    def hours(self) -> float | None:
        """Of the whole run; checks and saves come on top."""
        return None if self.trial is None else self.config.images / self.trial.images_per_s / 3600

    @property
    def tflops(self) -> float | None:
        """TFLOP/s of each process, of the model's own arithmetic; see :mod:`bootleg_training.engine.flops`."""
        trial = self.trial
        return None if trial is None else trial.flops_per_image * trial.images_per_s / self.processes / 1e12

    def lines(self) -> list[str]:
        """The plan for a person."""
        encoder, predictor = self.encoder_parameters / 1e6, self.predictor_parameters / 1e6
        return [
            describe(self.config, self.hardware, self.processes),
            f"parameters: encoder {encoder:.2f} M, predictor {predictor:.2f} M",
            self._memory(),
            *self._measured(),
            self._verdict(),
        ]

    def _memory(self) -> str:
        parts = [f"memory: {_size(self.state_bytes)} of weights, moments and teacher"]
        if self.peak_bytes is not None:
            parts.append(f"{_size(self.peak_bytes)} at the peak of the trial")
        if self.free_bytes is not None:
            parts.append(f"{_size(self.free_bytes)} free before it")
        return "; ".join(parts)

    def _measured(self) -> list[str]:
        trial, hours, tflops = self.trial, self.hours, self.tflops
        if trial is None or hours is None or tflops is None:
            return []
        speed = f"{trial.images_per_s:,.1f} images/s in {trial.steps} steps"
        waiting = f"{100 * trial.data_wait:.0f} % of the time waiting for images"
        work = f"{trial.flops_per_image / 1e9:.3g} GFLOP an image, {tflops:.3g} TFLOP/s"
        length = f"{self.config.images:,} images, {self.epochs:,.1f} epochs of {self.data_images:,}"
        lines = [
            f"speed: {speed}, {waiting}; {work}",
            f"whole run: {_duration(hours)} for {length}; checks and saves come on top",
        ]
        if trial.data_wait > WAITS:
            lines.append("the model waits for images: pack them once with `bootleg prepare`, or give it more cores")
        return lines

    def _verdict(self) -> str:
        if self.fits:
            return "it fits"
        each = self.config.batch_size // self.processes
        if self.accumulate is None:
            return "it does not fit, not even one image at a time: take a smaller preset or another device"
        return (
            f"it does not fit: {each // self.config.accumulate} images at a time are too many; the numbers above are "
            f"those of {each // self.accumulate} at a time, with --set accumulate={self.accumulate}"
        )


def plan(
    config: RunConfig,
    pack: Pack,
    device: torch.device,
    *,
    seconds: float = 20.0,
    world: World = World(),  # noqa: B008  # frozen
) -> Plan:
    """Try a run for a moment, in ever smaller micro-batches until it fits.

    On a CPU the kernel may end a process that takes too much, before it can say that it does not fit.

    Args:
        config: the run's settings.
        pack: its images.
        device: where to compute.
        seconds: of timed steps; up to as many again are taken to warm up.
        world: the processes, all of which must call.

    Raises:
        DataError: the pack cannot be trained on with these settings.
        ConfigError: the batch cannot be cut evenly; or, with several processes, the run does not fit.
    """
    config = config.resolved()
    world.check(config)
    check_pack(config, pack)  # the refusals of the run itself
    with torch.device("meta"):  # counts without taking the memory
        model = Bootleg(config)
    encoder, predictor = (sum(p.numel() for p in part.parameters()) for part in (model.teacher, model.predictor))
    trained = encoder + predictor
    shards = world.size if trained >= SHARD_FROM else 1
    free = free_memory(device)
    needs = Plan(
        config=config,
        hardware=provenance.hardware(device),
        processes=world.size,
        data_images=len(pack.images),
        encoder_parameters=encoder,
        predictor_parameters=predictor,
        state_bytes=FLOAT * (3 * trained + encoder) // shards,
        free_bytes=free,
    )
    gradients = FLOAT * trained // shards
    too_large = free is not None and needs.state_bytes + gradients > free
    if world.any(flag=too_large, device=device):  # none may try alone
        return needs
    for accumulate in _cuts(config, world):
        tried = _try(config.model_copy(update={"accumulate": accumulate}), pack, device, seconds, world)
        if tried is not None:
            trial, peak = tried
            return Plan(**{**needs.__dict__, "accumulate": accumulate, "trial": trial, "peak_bytes": peak})
        if world.size > 1:
            raise ConfigError(
                f"accumulate = {accumulate}: micro-batches of {config.batch_size // world.size // accumulate} images "
                "do not fit on each of the processes; plan with a larger one"
            )
    return needs


def _cuts(config: RunConfig, world: World) -> list[int]:
    """The micro-batches asked for, then at least twice as many each time, down to one image."""
    each = config.batch_size // world.size
    cuts = [config.accumulate]
    for count in range(config.accumulate + 1, each + 1):
        if each % count == 0 and (count >= 2 * cuts[-1] or count == each):
            cuts.append(count)
    return cuts


def _try(
    config: RunConfig, pack: Pack, device: torch.device, seconds: float, world: World
) -> tuple[Trial, int | None] | None:
    """The trial and its peak of memory; None if it ran out of memory."""
    try:
        return _trial(config, pack, device, seconds, world)
    except (MemoryError, RuntimeError) as error:
        if not _out_of_memory(error):
            raise
    gc.collect()  # outside the handler, whose traceback held the tensors
    if device.type == "cuda":
        torch.cuda.empty_cache()
    return None


def _trial(
    config: RunConfig, pack: Pack, device: torch.device, seconds: float, world: World
) -> tuple[Trial, int | None]:
    peak = PeakMemory(device)
    trainer = Trainer(config, device, world)
    spec = PreprocessSpec(height=config.encoder.image_size, width=config.encoder.image_size)
    source = batches(config, pack, spec, device, world=world)
    now = rates(config, config.images // 2)
    if not world.leads:
        return measure(lambda batch: trainer.step(batch, now), source, config, seconds, Stopwatch(device, world)), None
    with meter("trial", round(seconds) or 1) as shown:
        watch = Stopwatch(device, world, shown=lambda passed: shown.update(min(int(passed), round(seconds))))
        trial = measure(lambda batch: trainer.step(batch, now), source, config, seconds, watch)
    return trial, peak.bytes()


def _out_of_memory(error: Exception) -> bool:
    """PyTorch has a class for it on accelerators; its allocator for the CPU raises a plain RuntimeError."""
    words = ("can't allocate memory", "not enough memory")
    return isinstance(error, (MemoryError, torch.OutOfMemoryError)) or any(word in str(error) for word in words)


def _size(count: float) -> str:
    return f"{count / 2**30:.2f} GiB" if count >= 2**30 else f"{count / 2**20:.1f} MiB"


def _duration(hours: float) -> str:
    if hours < 1:
        return f"{60 * hours:.1f} minutes"
    return f"{hours:.1f} hours" if hours < 48 else f"{hours / 24:.1f} days"
