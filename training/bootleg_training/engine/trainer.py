"""The training step, and the model and optimiser it moves. The loop, ``--plan`` and the benchmarks take it.

It never reads data, files or the clock, and never waits for the device.
"""

from __future__ import annotations

import warnings
from contextlib import nullcontext
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import torch
from torch.nn.parallel import DistributedDataParallel

from bootleg_training.engine.optimiser import build_optimiser, update
from bootleg_training.engine.shards import shard
from bootleg_training.engine.world import World
from bootleg_training.objective import Bootleg, Loss

if TYPE_CHECKING:
    from contextlib import AbstractContextManager

    from torch import Tensor

    from bootleg_training.config import RunConfig
    from bootleg_training.engine.batch import Batch
    from bootleg_training.engine.schedule import StepRates

RECOMPILE_LIMIT = 64
"""Graphs of one block: three widths, and a length for each size of rectangle, of which a 14 x 14 grid has about 15."""

SHARD_FROM = 1_000_000_000
"""Trained parameters from which sharding pays: at ViT-L it saves 3 % of the memory for 3 % of the speed, at 3.8
billion parameters 45 % for 5 % (stable-pretraining's published study)."""


@dataclass(frozen=True)
class Step:
    """What one step gave, all of it on the device.

    Attributes:
        loss: averaged over micro-batches and processes; predictions and targets are the last micro-batch's.
        grad_norm: scalar, before clipping.
        taken: scalar, 1 if the step was taken, 0 if something was not finite and nothing changed.
    """

    loss: Loss
    grad_norm: Tensor
    taken: Tensor


class Trainer:
    """Student, predictor, teacher and optimiser of a run, and its step."""

    def __init__(
        self,
        config: RunConfig,
        device: torch.device,
        world: World = World(),  # noqa: B008  # frozen
        *,
        sharded: bool | None = None,
    ) -> None:
        """Build the model of ``config`` from its seed, the same in every process.

        Args:
            config: resolved settings.
            device: where to compute.
            world: the processes.
            sharded: FSDP2 instead of DDP; None: from a billion parameters on.

        Raises:
            ConfigError: the batch cannot be cut evenly.
        """
        world.check(config)
        self.config = config
        self.device = device
        self.world = world
        torch.manual_seed(config.seed)
        self.model = Bootleg(config).to(device)
        trained = sum(p.numel() for p in self.model.parameters() if p.requires_grad)
        self.sharded = world.size > 1 and (trained >= SHARD_FROM if sharded is None else sharded)
        if compiles(config, device):
            compile_blocks(self.model)
        self._objective: torch.nn.Module = self.model
        if self.sharded:
            shard(self.model, device)
        elif world.size > 1:
            self._objective = in_parallel(self.model)
        self.optimiser = build_optimiser(self.model, config.optim)

    def step(self, batch: Batch, rates: StepRates) -> Step:
        """One optimiser step and the teacher's move after it, or neither where something is not finite."""
        parts = batch.parts(self.config.accumulate)
        losses: list[Loss] = []
        for i, part in enumerate(parts, start=1):
            with (
                self._synchronised(last=i == len(parts)),
                torch.autocast(self.device.type, torch.bfloat16, enabled=self.config.precision == "bf16"),
            ):
                loss = self._objective(part.images_BHWC, part.visible_BV, part.rectangles_BMT)
                (loss.total / len(parts)).backward()
            losses.append(loss)
        figures = torch.stack([torch.cat([loss.total.detach().view(1), loss.per_layer]) for loss in losses])
        figures = self.world.mean(figures.mean(0))  # one exchange for all of them
        total, per_layer = figures[0], figures[1:]
        norm, taken = update(self.optimiser, total, rates, self.config.optim.clip)
        self.model.update_teacher(rates.momentum, taken)
        return Step(replace(losses[-1], total=total, per_layer=per_layer), norm, taken)

    def _synchronised(self, *, last: bool) -> AbstractContextManager[None]:
        """Gradients are exchanged once a step, with the last micro-batch."""
        if isinstance(self._objective, DistributedDataParallel) and not last:
            return self._objective.no_sync()
        return nullcontext()


def in_parallel(model: Bootleg) -> DistributedDataParallel:
    """DDP; the only buffers are fixed position tables, which need no exchange."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # torch 2.13 renames the switch, 2.6 knows the old name only
        return DistributedDataParallel(model, broadcast_buffers=False)


def compiles(config: RunConfig, device: torch.device) -> bool:
    """Whether blocks are compiled: where nothing is said, on CUDA only."""
    return device.type == "cuda" if config.compile is None else config.compile


def compile_blocks(model: Bootleg) -> None:
    """Compile each block by itself with static shapes: seconds, not minutes, and nothing between blocks is traced."""
    from torch._dynamo import config as dynamo  # noqa: PLC0415  # costs a second, and only who compiles needs it

    limit = "recompile_limit" if hasattr(dynamo, "recompile_limit") else "cache_size_limit"  # renamed in torch 2.7
    setattr(dynamo, limit, max(getattr(dynamo, limit), RECOMPILE_LIMIT))
    for part in (model.student, model.teacher, model.predictor):
        for block in part.blocks:
            block.compile(dynamic=False)
