"""Named starting points: encoder sizes and the settings that go with them."""

from __future__ import annotations

from typing import Final

from bootleg_training.config import AugmentConfig, EncoderConfig, OptimConfig, PredictorConfig, RunConfig

# I-JEPA's published settings: 15 of 100 ImageNet epochs of warm-up, rising weight decay, no clipping.
_IMAGENET = OptimConfig(
    warmup=0.15, final_weight_decay=0.4, weight_decay=0.04, betas=(0.9, 0.999), ema_start=0.996, clip=None
)

# Runs of some thousand steps: a higher rate than the square-root rule gives, and a slow teacher (docs/training.md).
_SHORT = OptimConfig(base_lr=4e-3, ema_start=0.998)

PRESETS: Final[dict[str, RunConfig]] = {
    "cpu-smoke": RunConfig(
        name="cpu-smoke",
        encoder=EncoderConfig(image_size=32, patch_size=4, width=64, depth=6, heads=4, registers=0),
        augment=AugmentConfig(scale=(0.5, 1.0)),
        images=20_000,
        batch_size=128,
    ),
    "nano": RunConfig(
        name="nano",
        encoder=EncoderConfig(image_size=32, patch_size=4, width=128, depth=6, heads=2, registers=0),
        augment=AugmentConfig(scale=(0.5, 1.0)),
        optim=_SHORT,
        images=1_000_000,
        batch_size=128,
    ),
    "tiny-cpu": RunConfig(  # the settings of the shipped bundle; its card names the commit
        name="tiny-cpu",
        encoder=EncoderConfig(image_size=64, patch_size=8, width=192, depth=6, heads=3, registers=0),
        predictor=PredictorConfig(joint=True),
        optim=_SHORT,
        images=600_000,
        batch_size=128,
    ),
    "tiny": RunConfig(
        name="tiny",
        encoder=EncoderConfig(image_size=64, patch_size=8, width=192, depth=12, heads=3, registers=2),
        images=10_000_000,
        batch_size=256,
    ),
    "small": RunConfig(name="small", images=128_000_000, batch_size=512, optim=_IMAGENET),
}
