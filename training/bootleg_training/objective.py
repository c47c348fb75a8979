"""Bootleg's objective: predict several hidden layers of an EMA teacher at the hidden positions.

``Bootleg`` holds student, predictor and teacher; its forward pass is one training step's loss. With
the last block behind the final norm as only target, and no global tokens, it is I-JEPA's.

Shapes: B images, M rectangles, T patches of a rectangle, V visible patches, N patches, D encoder
width, Q target layers.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from bootleg_training.engine.shards import local
from bootleg_training.predictor import Predictor
from bootleg_training.vit import Encoder

if TYPE_CHECKING:
    from bootleg_training.config import RunConfig, TargetConfig

TARGET_EPS = 1e-5


@dataclass(frozen=True)
class Loss:
    """One step's loss.

    Attributes:
        total: scalar, float32; the mean of ``per_layer``.
        per_layer: ``[Q]``, detached.
        predictions: ``[B, M, T, Q, D]``, detached, float32.
        targets: the same shape, normalised.
    """

    total: Tensor
    per_layer: Tensor
    predictions: Tensor
    targets: Tensor

    def explained(self) -> Tensor:
        """Share of the targets' variance that is explained, for each layer: ``[Q]``.

        Variance is counted around each channel's mean over the batch: 0 means the prediction is no
        better than the best constant, 1 that it is exact. Comparable over time, as the loss is not.
        """
        error = (self.predictions - self.targets).square().mean(dim=(0, 1, 2, 4))
        variance = self.targets.flatten(0, 2).var(dim=0, correction=0).mean(dim=1)
        return 1 - error / variance.clamp_min(1e-12)

    def target_std(self) -> Tensor:
        """Mean spread of a target channel over tokens and images, for each layer: ``[Q]``. Near 0: collapse."""
        return self.targets.flatten(0, 2).std(dim=0).mean(dim=1)


class Bootleg(nn.Module):
    """Student, predictor and teacher of one run."""

    def __init__(self, config: RunConfig) -> None:
        super().__init__()
        config = config.resolved()
        assert config.target.layers is not None
        self.config = config.target
        self.layers = config.target.layers
        self.student = Encoder(config.encoder)
        levels = len(self.layers) if config.target.source == "layers" else 1
        level_width = 3 * config.encoder.patch_size**2 if config.target.source == "pixels" else config.encoder.width
        self.predictor = Predictor(config.predictor, config.encoder, levels, level_width)
        self.teacher = copy.deepcopy(self.student).requires_grad_(requires_grad=False).eval()

    def forward(self, images_BHWC: Tensor, visible_BV: Tensor, rectangles_BMT: Tensor) -> Loss:
        """Loss of one batch; gradients reach student and predictor only.

        Args:
            images_BHWC: normalised images.
            visible_BV: what the student sees; ``views`` rows in a row for each image.
            rectangles_BMT: what it must predict, row by row as ``visible_BV``.
        """
        views = len(visible_BV) // len(images_BHWC)
        raw_QBND = [z.repeat_interleave(views, dim=0) for z in self.target_features(images_BHWC)]
        targets_BMTQD = select_targets(raw_QBND, rectangles_BMT, self.config)
        predictions_BMTQD = self.predict(
            images_BHWC.repeat_interleave(views, dim=0), visible_BV, rectangles_BMT
        ).float()
        per_layer = regression_loss(predictions_BMTQD, targets_BMTQD, self.config).mean(dim=(0, 1, 2, 4))
        return Loss(per_layer.mean(), per_layer.detach(), predictions_BMTQD.detach(), targets_BMTQD)

    @torch.no_grad()
    def target_features(self, images_BHWC: Tensor) -> list[Tensor]:
        """What is predicted, before it is normalised: Q tensors ``[B, N, D]`` of the whole, unmasked image."""
        if self.config.source == "pixels":
            return [self.teacher.patchify(images_BHWC)]
        normed = self.config.final_norm and self.layers[-1] == self.teacher.config.depth
        seen = self.teacher(images_BHWC, taps=self.layers, tap=self.config.tap, norm=normed)
        return [*seen.taps[:-1], seen.patches] if normed else seen.taps

    def predict(self, images_BHWC: Tensor, visible_BV: Tensor, rectangles_BMT: Tensor) -> Tensor:
        """Predictions ``[B, M, T, Q, D]`` from the visible patches alone."""
        seen = self.student(images_BHWC, visible_BV)
        predictions: Tensor = self.predictor(seen.patches, seen.globals, visible_BV, rectangles_BMT)
        return predictions

    @torch.no_grad()
    def update_teacher(self, momentum: float, keep: Tensor) -> None:
        """Move the teacher towards the student: ``teacher = m teacher + (1 - m) student``, in float32.

        Args:
            momentum: m.
            keep: scalar tensor, 1 to update and 0 to leave the teacher as it is; read on the device,
                so that a skipped step costs no synchronisation.
        """
        teacher = [local(p) for p in self.teacher.parameters()]
        student = [local(p) for p in self.student.parameters()]
        difference = torch._foreach_sub(student, teacher)  # noqa: SLF001  # one kernel
        torch._foreach_mul_(difference, (1 - momentum) * keep)
        torch._foreach_add_(teacher, difference)


def select_targets(raw_QBND: list[Tensor], rectangles_BMT: Tensor, config: TargetConfig) -> Tensor:
    """Normalise each layer by itself and gather the rectangles: float32 ``[B, M, T, Q, D]``.

    Each layer is normalised before the layers are joined: the stream grows with depth, and a joint
    normalisation would let the last layer dominate.
    """
    B, M, T = rectangles_BMT.shape
    index = rectangles_BMT.reshape(B, M * T, 1)
    chosen: list[Tensor] = []
    if config.source == "average":  # data2vec: normalise each layer, average, normalise again
        raw_QBND = [torch.stack([F.layer_norm(z.float(), z.shape[2:], eps=TARGET_EPS) for z in raw_QBND]).mean(0)]
    for z_BND in raw_QBND:
        z = z_BND.float()
        if config.normalise == "instance":
            z = (z - z.mean(1, keepdim=True)) / (z.var(1, correction=0, keepdim=True) + TARGET_EPS).sqrt()
        z = z.gather(1, index.expand(-1, -1, z.shape[2]))
        if config.normalise == "layer":
            z = F.layer_norm(z, z.shape[2:], eps=TARGET_EPS)
        chosen.append(z)
    return torch.stack(chosen, dim=2).view(B, M, T, len(raw_QBND), -1)


def regression_loss(predictions: Tensor, targets: Tensor, config: TargetConfig) -> Tensor:
    """Element-wise loss in float32, not reduced."""
    if config.loss == "smooth_l1":
        return F.smooth_l1_loss(predictions, targets, reduction="none")
    if config.loss == "l1":
        return F.l1_loss(predictions, targets, reduction="none")
    return F.mse_loss(predictions, targets, reduction="none")
