"""FSDP2: parameters, gradients and moments cut over the processes, for models that one card cannot hold.

The teacher is cut as the student is, so that its moving average needs no communication.
"""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING

import torch
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import DTensor, distribute_tensor

if TYPE_CHECKING:
    from torch import Tensor

    from bootleg_training.objective import Bootleg


def shard(model: Bootleg, device: torch.device) -> None:
    """Cut a model over all processes in place: block by block, then what is left of each part."""
    # The encoders return views of their stream; nobody writes into them, which is all that this warning is about.
    warnings.filterwarnings("ignore", message="FSDP2-wrapped module .* returned a view tensor")
    mesh = init_device_mesh(device.type, (torch.distributed.get_world_size(),))
    for part in (model.student, model.teacher, model.predictor):
        for block in part.blocks:
            fully_shard(block, mesh=mesh)
        # True: the teacher has no backward pass after which its own parameters would be cut again.
        fully_shard(part, mesh=mesh, reshard_after_forward=True)


def local(tensor: Tensor) -> Tensor:
    """This process's shard, sharing memory; the tensor itself where it is whole."""
    return tensor.to_local() if isinstance(tensor, DTensor) else tensor


def whole(tensor: Tensor) -> Tensor:
    """The whole tensor, detached: gathered from every process, so every process must call."""
    tensor = tensor.detach()
    return tensor.full_tensor() if isinstance(tensor, DTensor) else tensor


def like(full: Tensor, tensor: Tensor) -> Tensor:
    """``full`` on the device of ``tensor`` and cut as it is."""
    full = full.to(tensor.device)
    return distribute_tensor(full, tensor.device_mesh, tensor.placements) if isinstance(tensor, DTensor) else full
