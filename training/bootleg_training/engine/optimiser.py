"""AdamW over student and predictor, and the update that a non-finite step leaves undone."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from bootleg_training.engine.shards import whole

if TYPE_CHECKING:
    from bootleg_training.config import OptimConfig
    from bootleg_training.engine.schedule import StepRates
    from bootleg_training.objective import Bootleg

Named = dict[str, torch.nn.Parameter]


def trained_parameters(model: Bootleg) -> Named:
    """Student and predictor parameters by name; the teacher has none to train."""
    return {name: p for name, p in model.named_parameters() if not name.startswith("teacher.")}


def build_optimiser(model: Bootleg, config: OptimConfig) -> torch.optim.AdamW:
    """AdamW without weight decay on biases, norms, global tokens, learned positions and the mask token."""
    named = trained_parameters(model)
    exempt = [p for name, p in named.items() if p.ndim == 1 or name.endswith(("global_tokens", "positions_ND"))]
    exempt_ids = {id(p) for p in exempt}
    groups = [
        {"params": [p for p in named.values() if id(p) not in exempt_ids], "decayed": True},
        {"params": exempt, "weight_decay": 0.0, "decayed": False},
    ]
    return torch.optim.AdamW(groups, lr=0.0, betas=config.betas, fused=True)


def update(optimiser: torch.optim.AdamW, loss: Tensor, rates: StepRates, clip: float | None) -> tuple[Tensor, Tensor]:
    """Clip and step, unless loss or gradient are not finite: then nothing changes, on the device, without a sync.

    Returns:
        The gradient norm before clipping, and 1 if the step was taken, else 0; both scalar tensors.
    """
    parameters = [p for group in optimiser.param_groups for p in group["params"]]
    norm = whole(torch.nn.utils.clip_grad_norm_(parameters, math.inf if clip is None else clip, foreach=True))
    bad = ~(torch.isfinite(norm) & torch.isfinite(loss.detach()))
    optimiser.found_inf = bad.float()  # type: ignore[attr-defined]  # the fused kernel's own switch
    for group in optimiser.param_groups:
        group["lr"] = rates.lr
        if group["decayed"]:
            group["weight_decay"] = rates.weight_decay
    optimiser.step()
    optimiser.zero_grad(set_to_none=True)
    return norm, 1 - bad.float()
