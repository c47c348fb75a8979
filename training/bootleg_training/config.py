"""Settings of a pretraining run: frozen, validated, composed once by the command line.

Defaults are the method's, with the optimiser settings of short runs; presets change them. A value of
``None`` means "derive it", and :meth:`RunConfig.resolved` returns the same settings with nothing left to derive.
"""

from __future__ import annotations

import math
from typing import Annotated, Literal, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator

Count = Annotated[int, Field(gt=0)]
Share = Annotated[float, Field(gt=0, le=1)]
Positive = Annotated[float, Field(gt=0)]
Decay = Annotated[float, Field(ge=0, lt=1)]


def _rising(pair: tuple[float, float]) -> tuple[float, float]:
    if pair[0] > pair[1]:
        raise ValueError(f"the lower end {pair[0]} is above the upper end {pair[1]}")
    return pair


ShareRange = Annotated[tuple[Share, Share], AfterValidator(_rising)]
RatioRange = Annotated[tuple[Positive, Positive], AfterValidator(_rising)]


class _Settings(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class EncoderConfig(_Settings):
    """A plain pre-norm ViT (Dosovitskiy et al., 2021), with fixed 2-D sin-cos positions unless told otherwise."""

    image_size: Count = Field(224, description="input side in pixels")
    patch_size: Count = Field(16, description="patch side in pixels")
    width: Count = 384
    depth: Count = 12
    heads: Count = 6
    cls_token: bool = True
    registers: int = Field(4, ge=0, description="extra global tokens beside CLS")
    mlp_ratio: Positive = 4.0
    positions: Literal["sincos", "learned"] = Field(
        "sincos", description="a fixed table, or one that is trained from there on, as DINOv2's"
    )
    initial: Literal["fixed", "scaled"] = Field(
        "fixed", description="weights of encoder and predictor: one deviation, or larger ones where they are narrow"
    )

    @model_validator(mode="after")
    def _divisible(self) -> Self:
        if self.image_size % self.patch_size:
            raise ValueError(f"image_size {self.image_size} is no multiple of patch_size {self.patch_size}")
        if self.width % 4 or self.width % self.heads:
            raise ValueError(f"width {self.width} must be a multiple of 4 and of heads ({self.heads})")
        return self

    @property
    def label(self) -> str:
        """What reports call the shape: width x blocks / patch side."""
        return f"ViT {self.width}x{self.depth}/{self.patch_size}"

    @property
    def grid(self) -> int:
        """Patches along one side."""
        return self.image_size // self.patch_size

    @property
    def patches(self) -> int:
        """Patch tokens of a whole image, N."""
        return self.grid**2

    @property
    def global_tokens(self) -> int:
        """CLS and registers, G."""
        return int(self.cls_token) + self.registers


class PredictorConfig(_Settings):
    """The predictor's ViT; by default 10 blocks (fewer for encoders under 12) of half the encoder's width."""

    width: Count | None = None
    depth: Count | None = None
    heads: Count | None = None
    joint: bool = Field(
        default=False,
        description="one pass over all rectangles: about half the predictor's cost, but rectangles see each other",
    )


class MaskConfig(_Settings):
    """What is hidden from the student; see :mod:`bootleg_training.masking`."""

    sampler: Literal["uniform", "ijepa"] = "uniform"
    rectangles: Count = Field(4, description="target rectangles per image, M")
    scale: ShareRange = Field((0.15, 0.20), description="rectangle area as a share of the patches")
    aspect: RatioRange = Field((0.75, 1.5), description="rectangle height / width")
    visible: Share = Field(0.30, description="share of the patches that the student sees")
    views: Count = Field(1, description="masks an image for each pass of the teacher")
    thinning: Literal["scan", "random", "none"] = Field(
        "scan",
        description="cut free patches to the visible share along a scan or at random; none: to the batch's fewest",
    )

    @model_validator(mode="after")
    def _ijepa_has_its_own(self) -> Self:
        if self.sampler == "ijepa" and (self.visible, self.thinning) != (0.30, "scan"):
            raise ValueError("visible and thinning are the uniform sampler's; ijepa cuts to the batch's fewest")
        return self


class TargetConfig(_Settings):
    """Which hidden layers of the teacher are predicted, and how they are normalised."""

    layers: tuple[Count, ...] | None = Field(None, description="1-based blocks; None: first, 1/3, 2/3 and last")
    normalise: Literal["layer", "instance", "none"] = Field(
        "layer", description="per token over channels, per channel over an image's tokens, or not at all"
    )
    tap: Literal["block", "mid", "attention", "mlp"] = Field(
        "block", description="the stream behind the block or behind its attention, or one of its two branches"
    )
    final_norm: bool = Field(
        default=False, description="tap the last block behind the encoder's final norm, as I-JEPA does"
    )
    source: Literal["layers", "average", "pixels"] = Field(
        "layers", description="Bootleg; the layers' average, as data2vec; or normalised pixels, as MAE"
    )
    loss: Literal["mse", "smooth_l1", "l1"] = "mse"


class OptimConfig(_Settings):
    """AdamW, cosine schedule, EMA. Rates are linear in nothing: lr follows sqrt(batch_size / 2048)."""

    base_lr: Positive = Field(1e-3, description="peak learning rate at batch size 2048")
    final_lr: Annotated[float, Field(ge=0)] = 1e-6
    warmup: Annotated[float, Field(ge=0, lt=1)] = Field(0.05, description="share of the run")
    weight_decay: Annotated[float, Field(ge=0)] = 0.05
    final_weight_decay: Annotated[float, Field(ge=0)] | None = Field(None, description="None: constant")
    betas: tuple[Decay, Decay] = (0.9, 0.95)
    clip: Positive | None = Field(3.0, description="gradient norm; None: not clipped")
    ema_start: Annotated[float, Field(ge=0, le=1)] | None = Field(
        None, description="teacher momentum at step 0; None: a horizon of 1 % of the run, between 0.99 and 0.996"
    )
    ema_end: Annotated[float, Field(ge=0, le=1)] = 1.0


class AugmentConfig(_Settings):
    """Random resized crop and flip. One view serves student and teacher."""

    scale: ShareRange = (0.3, 1.0)
    aspect: RatioRange = (3 / 4, 4 / 3)
    flip: bool = True


class RunConfig(_Settings):
    """Everything that decides what a run computes."""

    name: str = "bootleg"
    encoder: EncoderConfig = EncoderConfig()
    predictor: PredictorConfig = PredictorConfig()
    mask: MaskConfig = MaskConfig()
    target: TargetConfig = TargetConfig()
    optim: OptimConfig = OptimConfig()
    augment: AugmentConfig = AugmentConfig()
    images: Count = Field(1_000_000, description="images to see, repeats counted: the length of the run")
    batch_size: Count = Field(256, description="images of an optimiser step, over all processes")
    accumulate: Count = Field(1, description="micro-batches of a step, for batches that do not fit at once")
    seed: int = Field(0, ge=0, lt=2**63)
    precision: Literal["bf16", "fp32"] = "bf16"
    compile: bool | None = Field(None, description="torch.compile for each block; None: on CUDA only")
    log_every: Count = Field(20, description="steps")
    probe_every: Count = Field(1000, description="steps between k-NN checks, when the data has labels")
    save_every: Count = Field(500, description="steps")

    @property
    def steps(self) -> int:
        """Optimiser steps of the whole run."""
        return math.ceil(self.images / self.batch_size)

    @property
    def peak_lr(self) -> float:
        """Learning rate after warm-up."""
        return self.optim.base_lr * math.sqrt(self.batch_size / 2048)

    @model_validator(mode="after")
    def _batch_can_be_cut(self) -> Self:
        if self.batch_size % self.accumulate:
            raise ValueError(f"batch_size {self.batch_size} is no multiple of accumulate {self.accumulate}")
        return self

    @model_validator(mode="after")
    def _layers_exist(self) -> Self:
        layers = self.target.layers
        if layers is not None and (
            not layers or max(layers) > self.encoder.depth or list(layers) != sorted(set(layers))
        ):
            raise ValueError(f"target.layers {layers}: use distinct, rising block numbers up to {self.encoder.depth}")
        side, least = self.encoder.grid, 7 if self.mask.sampler == "uniform" else 5
        if side < least:
            raise ValueError(f"a grid of {side} x {side} is under {least} x {least}: use smaller patches")
        return self

    @model_validator(mode="after")
    def _predictor_can_be_built(self) -> Self:
        predictor = self.resolved().predictor
        assert predictor.width is not None
        assert predictor.heads is not None
        if predictor.width % 4 or predictor.width % predictor.heads:
            raise ValueError(
                f"predictor: width {predictor.width} must be a multiple of 4 and of heads ({predictor.heads})"
            )
        return self

    def resolved(self) -> RunConfig:
        """Return the settings with every derived value filled in."""
        depth = self.encoder.depth
        ema = self.optim.ema_start
        predictor = {
            "width": self.predictor.width or self.encoder.width // 2,
            "depth": self.predictor.depth or min(10, max(2, round(10 * depth / 12))),
            "heads": self.predictor.heads or self.encoder.heads,
        }
        return self.model_copy(
            update={
                "predictor": self.predictor.model_copy(update=predictor),
                "target": self.target.model_copy(update={"layers": self.target.layers or default_layers(depth)}),
                "optim": self.optim.model_copy(
                    update={"ema_start": default_momentum(self.steps) if ema is None else ema}
                ),
            }
        )


def default_momentum(steps: int) -> float:
    """1 % of the run as the teacher's horizon; never a fast teacher, which takes the easy way (docs/training.md)."""
    return min(0.996, max(0.99, 1 - 100 / steps))


def default_layers(depth: int) -> tuple[int, ...]:
    """First, one third, two thirds and last: (1, 4, 8, 12) at depth 12."""
    return tuple(sorted({1, round(depth / 3), round(2 * depth / 3), depth} - {0}))
