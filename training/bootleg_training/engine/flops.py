"""How much arithmetic a step takes, by formula: what ``--plan`` and the benchmarks divide by time.

Counted are the multiplications and additions of matrix products, two for each pair, that the method asks
for. Norms, softmax, the optimiser and what a kernel computes twice to save memory are not (the model's
share of FLOP, as in PaLM, Chowdhery et al. 2022, appendix B).

Letters: S tokens of a sequence, W width of the stream, V visible patches, N patches, G global tokens,
M rectangles, T patches of a rectangle, P width of the predictor.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from bootleg_training.config import EncoderConfig, RunConfig

TRAINED = 3
"""A product's two gradients cost one product each."""
PREDICTOR_MLP_RATIO = 4.0


@dataclass(frozen=True)
class Flops:
    """Floating-point operations of one image in one training step.

    Attributes:
        teacher: one forward pass over the whole image, up to the last target layer.
        student: forward and backward, over the visible patches of every view.
        predictor: forward and backward, over every rectangle of every view.
    """

    teacher: int
    student: int
    predictor: int

    @property
    def total(self) -> int:
        """All three."""
        return self.teacher + self.student + self.predictor


def image_flops(config: RunConfig, *, visible: int, rectangle: int) -> Flops:
    """Count one image of a training step.

    Args:
        config: resolved settings.
        visible: patches that the student sees, V.
        rectangle: patches of a rectangle, T; both vary from batch to batch with some samplers.
    """
    encoder, views = config.encoder, config.mask.views
    embedding = _patch_embedding(encoder, visible)
    # Pixels need no gradient: the first product has one of the two.
    student = TRAINED * (encoder_flops(encoder, visible) - embedding) + (TRAINED - 1) * embedding
    predictor = TRAINED * _predictor(config, visible, rectangle)
    return Flops(_teacher(config), views * student, views * predictor)


def encoder_flops(encoder: EncoderConfig, patches: int, depth: int | None = None) -> int:
    """One forward pass over so many patches of an image, through the first ``depth`` blocks or all."""
    blocks = encoder.depth if depth is None else depth
    tokens = patches + encoder.global_tokens
    return _patch_embedding(encoder, patches) + blocks * _block(tokens, encoder.width, encoder.mlp_ratio)


def _teacher(config: RunConfig) -> int:
    if config.target.source == "pixels":
        return 0
    assert config.target.layers is not None, "counting needs a resolved configuration"
    return encoder_flops(config.encoder, config.encoder.patches, config.target.layers[-1])


def _predictor(config: RunConfig, visible: int, rectangle: int) -> int:
    W, P, depth = config.encoder.width, config.predictor.width, config.predictor.depth
    assert P is not None, "counting needs a resolved configuration"
    assert depth is not None
    assert config.target.layers is not None
    context, masks = visible + config.encoder.global_tokens, config.mask.rectangles * rectangle
    runs = 1 if config.predictor.joint else config.mask.rectangles
    levels = len(config.target.layers) if config.target.source == "layers" else 1
    level_width = 3 * config.encoder.patch_size**2 if config.target.source == "pixels" else W
    blocks = runs * depth * _block(context + masks // runs, P, PREDICTOR_MLP_RATIO)
    return _product(context, W, P) + blocks + _product(masks, P, levels * level_width)


def _patch_embedding(encoder: EncoderConfig, patches: int) -> int:
    return _product(patches, 3 * encoder.patch_size**2, encoder.width)


def _block(tokens: int, width: int, mlp_ratio: float) -> int:
    """Queries, keys and values; their two products, whatever the number of heads; the projection; the MLP."""
    attention = 4 * _product(tokens, width, width) + 2 * _product(tokens, width, tokens)
    return attention + 2 * _product(tokens, width, int(width * mlp_ratio))


def _product(rows: int, inner: int, columns: int) -> int:
    return 2 * rows * inner * columns
