"""I-JEPA's training step as its public code takes it: the other side of ``benchmarks.training_step``.

Restated in our words after facebookresearch/ijepa (``src/train.py``, ``src/models/vision_transformer.py``), on the
weights of our model, so that both compute the same numbers and differ in nothing but how. Left out, in its favour: the
gradient scaler, dropout of probability 0, the log file. Nothing but the benchmark and its test uses this.

Shapes: B images, C channels, H and W sides, N patches, V visible patches, M rectangles, T patches of a rectangle,
K patches a mask keeps, S tokens of a sequence, D width, P predictor width.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.nn import functional as F

if TYPE_CHECKING:
    from bootleg_training.config import RunConfig
    from bootleg_training.engine.batch import Batch
    from bootleg_training.engine.schedule import StepRates
    from bootleg_training.objective import Bootleg
    from bootleg_training.predictor import Predictor
    from bootleg_training.vit import Block, Encoder


def ijepa_config(config: RunConfig) -> RunConfig:
    """The same sizes with I-JEPA's objective: no global tokens, the last block behind the final norm, smooth L1."""
    depth = config.encoder.depth
    return config.model_copy(
        update={
            "encoder": config.encoder.model_copy(update={"cls_token": False, "registers": 0}),
            "predictor": config.predictor.model_copy(update={"joint": False}),
            "target": config.target.model_copy(update={"layers": (depth,), "final_norm": True, "loss": "smooth_l1"}),
        }
    )


@dataclass(frozen=True)
class Collated:
    """A batch as I-JEPA's loader hands it over: channels first, and a list of masks."""

    images_BCHW: Tensor
    context: list[Tensor]
    targets: list[Tensor]


def collate(batch: Batch) -> Collated:
    """Our batch in that form; not part of what is timed."""
    assert len(batch.visible_BV) == len(batch.images_BHWC), "I-JEPA has one context an image"
    rectangles = [rectangle_BT.contiguous() for rectangle_BT in batch.rectangles_BMT.unbind(1)]
    return Collated(batch.images_BHWC.permute(0, 3, 1, 2).contiguous(), [batch.visible_BV], rectangles)


class PlainIJepa:
    """The step, on the parameters of a model whose configuration is :func:`ijepa_config`'s."""

    def __init__(self, model: Bootleg, config: RunConfig) -> None:
        assert config.target == ijepa_config(config).target, "the plain step computes I-JEPA's loss and no other"
        assert config.encoder.global_tokens == 0, "I-JEPA has no global tokens"
        self.model = model
        self.bf16 = config.precision == "bf16"
        parts = (model.student, model.predictor)
        decayed = [[p for p in part.parameters() if p.ndim > 1] for part in parts]
        exempt = [[p for p in part.parameters() if p.ndim <= 1 and p.numel()] for part in parts]
        groups = [{"params": params} for params in decayed]
        groups += [{"params": params, "weight_decay": 0.0, "exempt": True} for params in exempt]
        # The optimiser as that code makes it, with torch's defaults: a loop over parameters on a CPU, foreach on CUDA.
        self.optimiser = torch.optim.AdamW([g for g in groups if g["params"]], betas=config.optim.betas)

    def step(self, batch: Collated, rates: StepRates) -> float:
        """One step; the loss is read on the host each time, as is the gradient of every weight matrix."""
        for group in self.optimiser.param_groups:
            group["lr"] = rates.lr
            if not group.get("exempt"):
                group["weight_decay"] = rates.weight_decay
        with torch.autocast(batch.images_BCHW.device.type, torch.bfloat16, enabled=self.bf16):
            loss = self.loss(batch)
        loss.backward()
        self.optimiser.step()
        for p in self.model.student.parameters():
            if p.grad is not None and p.ndim > 1:
                torch.norm(p.grad).item()
        self.optimiser.zero_grad()
        with torch.no_grad():
            for student, teacher in zip(self.model.student.parameters(), self.model.teacher.parameters(), strict=True):
                teacher.mul_(rates.momentum).add_((1.0 - rates.momentum) * student.detach())
        value = loss.item()
        assert not math.isnan(value), "loss is nan"
        return value

    def loss(self, batch: Collated) -> Tensor:
        """Mean smooth L1 over all rectangles, scalar."""
        count = len(batch.images_BCHW)
        with torch.no_grad():
            h_BND = encode(self.model.teacher, batch.images_BCHW)
            h_BND = F.layer_norm(h_BND, (h_BND.shape[-1],))
            targets = repeat_blocks(keep(h_BND, batch.targets), count, len(batch.context))
        seen = encode(self.model.student, batch.images_BCHW, batch.context)
        predictions = predict(self.model.predictor, seen, batch.context, batch.targets)
        return F.smooth_l1_loss(predictions, targets)


def keep(x_BND: Tensor, masks: list[Tensor]) -> Tensor:
    """The patches of each mask, masks one after another along the batch: ``[len(masks) * B, K, D]``."""
    kept = []
    for mask_BK in masks:
        index = mask_BK.unsqueeze(-1).repeat(1, 1, x_BND.shape[-1])
        kept.append(torch.gather(x_BND, 1, index))
    return torch.cat(kept, dim=0)


def repeat_blocks(x: Tensor, size: int, times: int) -> Tensor:
    """Repeat each block of ``size`` rows ``times`` times, in place in the order."""
    blocks = []
    for start in range(0, len(x), size):
        blocks += [x[start : start + size]] * times
    return torch.cat(blocks, dim=0)


def encode(encoder: Encoder, images_BCHW: Tensor, masks: list[Tensor] | None = None) -> Tensor:
    """Normalised patch tokens; the convolution covers every patch, and masks are applied behind it."""
    side = encoder.config.patch_size
    weight = encoder.patch_embed.weight.view(-1, side, side, 3).permute(0, 3, 1, 2)
    x = F.conv2d(images_BCHW, weight, encoder.patch_embed.bias, stride=side).flatten(2).transpose(1, 2)
    x = x + encoder.positions_ND.unsqueeze(0)
    if masks is not None:
        x = keep(x, masks)
    for block in encoder.blocks:
        x = run_block(block, x)
    return encoder.norm(x)


def predict(predictor: Predictor, seen_BVD: Tensor, context: list[Tensor], targets: list[Tensor]) -> Tensor:
    """Predictions ``[M * B, T, D]``: rectangles are rows of one batch, as in that code."""
    count = len(seen_BVD) // len(context)
    table = predictor.positions_NP.unsqueeze(0).repeat(count, 1, 1)
    x = predictor.embed(seen_BVD)
    x = x + keep(table, context)
    visible = x.shape[1]
    where = repeat_blocks(keep(table, targets), count, len(context))
    tokens = predictor.mask_token.view(1, 1, -1).repeat(where.shape[0], where.shape[1], 1) + where
    x = torch.cat([x.repeat(len(targets), 1, 1), tokens], dim=1)
    for block in predictor.blocks:
        x = run_block(block, x)
    return predictor.head(predictor.norm(x)[:, visible:])


def run_block(block: Block, x_BSD: Tensor) -> Tensor:
    """A block with its softmax written out."""
    B, S, D = x_BSD.shape
    qkv = block.qkv(block.norm1(x_BSD)).reshape(B, S, 3, block.heads, D // block.heads).permute(2, 0, 3, 1, 4)
    q, k, v = qkv[0], qkv[1], qkv[2]
    weights = (q @ k.transpose(-2, -1)) * (D // block.heads) ** -0.5
    mixed = (weights.softmax(dim=-1) @ v).transpose(1, 2).reshape(B, S, D)
    x_BSD = x_BSD + block.proj(mixed)
    return x_BSD + block.fc2(F.gelu(block.fc1(block.norm2(x_BSD))))
