"""``bootleg train --plan``: will it fit, how fast is it, how long will it take?

A short trial with the run's own trainer and data, in ever smaller micro-batches until it fits; it writes no file.
"""

from __future__ import annotations

import gc
from dataclasses import replace
from typing import TYPE_CHECKING

import torch

from bootleg_bundle.errors import ConfigError
from bootleg_bundle.preprocess import PreprocessSpec
from bootleg_training import provenance
from bootleg_training.data.memory import free_memory
from bootleg_training.engine.batch import batches
from bootleg_training.engine.begin import check_pack
from bootleg_training.engine.peak import PeakMemory
from bootleg_training.engine.plan import Plan
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
            return replace(needs, accumulate=accumulate, trial=trial, peak_bytes=peak)
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
