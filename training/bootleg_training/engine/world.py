"""The processes of a run: who takes which rows of a batch, who writes, and what all must agree on.

``torchrun`` starts the processes; the command line opens the world once and hands it down. A run by
itself is a world of one, in which every method is a cheap no-op.
"""

from __future__ import annotations

import os
import sys
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, NoReturn

import torch
import torch.distributed as dist

from bootleg_bundle.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from torch import Tensor

    from bootleg_training.config import RunConfig


@dataclass(frozen=True)
class World:
    """This process among ``size``.

    Attributes:
        rank: 0 leads: it alone prints and writes.
        size: processes.
    """

    rank: int = 0
    size: int = 1

    @property
    def leads(self) -> bool:
        """Whether this process prints and writes."""
        return self.rank == 0

    def rows(self, count: int) -> slice:
        """This process's share of ``count`` rows of the global batch; ``size`` divides ``count``."""
        each = count // self.size
        return slice(self.rank * each, (self.rank + 1) * each)

    def mean(self, tensor: Tensor) -> Tensor:
        """Average a tensor over the processes, in place; on the device, without a host synchronisation."""
        if self.size > 1:
            dist.all_reduce(tensor)
            tensor.div_(self.size)
        return tensor

    def any(self, *, flag: bool, device: torch.device) -> bool:
        """Whether the flag is up in any process: a host synchronisation where there are several."""
        if self.size == 1:
            return flag
        up = torch.tensor(float(flag), device=device)
        dist.all_reduce(up, op=dist.ReduceOp.MAX)
        return bool(up)

    def wait(self) -> None:
        """Return when every process has come here."""
        if self.size > 1:
            dist.barrier()

    def check(self, config: RunConfig) -> None:
        """Refuse a batch that cannot be cut evenly.

        Raises:
            ConfigError: naming the three numbers.
        """
        if config.batch_size % (config.accumulate * self.size):
            raise ConfigError(
                f"batch_size = {config.batch_size}: it must be a multiple of accumulate ({config.accumulate}) "
                f"times the number of processes ({self.size})"
            )


@contextmanager
def open_world(device: torch.device) -> Iterator[tuple[World, torch.device]]:
    """Join the processes that ``torchrun`` started; a world of one without it.

    Args:
        device: what was asked for; a CUDA process gets the card of its local rank.

    Yields:
        The world and this process's device.
    """
    if int(os.environ.get("WORLD_SIZE", "1")) == 1:
        yield World(), device
        return
    if device.type == "cuda":
        device = torch.device("cuda", int(os.environ["LOCAL_RANK"]))
        torch.cuda.set_device(device)
    dist.init_process_group("nccl" if device.type == "cuda" else "gloo")
    try:
        yield World(dist.get_rank(), dist.get_world_size()), device
    finally:
        dist.destroy_process_group()


def leave(world: World, code: int = 0) -> NoReturn:
    """End this process; one of several ends without taking the interpreter down, ``atexit`` included.

    The caches of DTensor keep a process group, and with it gloo's threads, beyond its destruction. Those that let go of
    a tensor while the interpreter ends abort the process, and the launcher then calls a finished run failed.

    Args:
        world: of this process.
        code: its exit code.
    """
    if world.size > 1:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)
    raise SystemExit(code)
