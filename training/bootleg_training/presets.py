"""Named starting points: encoder sizes and the settings that go with them."""

from __future__ import annotations

from typing import Final

from bootleg_training.config import AugmentConfig, EncoderConfig, OptimConfig, PredictorConfig, RunConfig

# I-JEPA's published settings: 15 of 100 ImageNet epochs of warm-up, rising weight decay, no clipping.
_IMAGENET = OptimConfig(
    warmup=0.15, final_weight_decay=0.4, weight_decay=0.04, betas=(0.9, 0.999), ema_start=0.996, clip=None
)

# The same at the published lengths and batch. Warm-up is 40 epochs, as in I-JEPA's code, or 15 in runs of up to 300.
_PUBLISHED_600 = _IMAGENET.model_copy(update={"warmup": 40 / 600})
_PUBLISHED_300 = _IMAGENET.model_copy(update={"warmup": 15 / 300})

# Runs of some thousand steps: a higher rate than the square-root rule gives, and a slow teacher (docs/training.md).
_SHORT = OptimConfig(base_lr=4e-3, ema_start=0.998)

PRESETS: Final[dict[str, RunConfig]] = {
    "cpu-smoke": RunConfig(
        name="cpu-smoke",
        encoder=EncoderConfig(image_size=32, patch_size=4, width=64, depth=6, heads=4, registers=0, initial="scaled"),
        augment=AugmentConfig(scale=(0.5, 1.0)),
        images=20_000,
        batch_size=128,
    ),
    "nano": RunConfig(
        name="nano",
        encoder=EncoderConfig(image_size=32, patch_size=4, width=128, depth=6, heads=2, registers=0, initial="scaled"),
        augment=AugmentConfig(scale=(0.5, 1.0)),
        optim=_SHORT,
        images=1_000_000,
        batch_size=128,
    ),
    "tiny-cpu": RunConfig(  # with these the shipped encoder began; its card says how it went on
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
    # ImageNet has 1.28 million images: 600 epochs for base and large, 300 for huge, none of them run here. Each
    # micro-batch is meant for one card of 80 GB; `bootleg train --plan` measures what fits.
    "base": RunConfig(
        name="base",
        encoder=EncoderConfig(width=768, heads=12),
        optim=_PUBLISHED_600,
        images=769_000_000,
        batch_size=2048,
        accumulate=4,
    ),
    "large": RunConfig(
        name="large",
        encoder=EncoderConfig(width=1024, depth=24, heads=16),
        optim=_PUBLISHED_600,
        images=769_000_000,
        batch_size=2048,
        accumulate=8,
    ),
    "huge": RunConfig(  # patch 14, as I-JEPA's ViT-H at this size
        name="huge",
        encoder=EncoderConfig(patch_size=14, width=1280, depth=32, heads=16),
        optim=_PUBLISHED_300,
        images=385_000_000,
        batch_size=2048,
        accumulate=16,
    ),
}
