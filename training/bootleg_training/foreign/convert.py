"""A foreign ViT as ours: names mapped, shapes read off the tensors, and nothing lost without a word.

``bootleg import-weights`` calls it. Outputs equal the original's up to rounding: what our encoder has
no place for (a class token's position, LayerScale) is folded into what it has.

Shapes: D width, N patches, P rows of the position table, R registers, p patch side.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from pydantic import ValidationError

from bootleg_bundle.errors import CheckpointError, first_fault
from bootleg_training.config import EncoderConfig
from bootleg_training.foreign.files import read_tensors
from bootleg_training.foreign.layouts import (
    BLOCK,
    CLS,
    HEADS,
    LAYER_SCALE,
    LAYOUTS,
    PATCHES,
    POSITIONS,
    REGISTERS,
    TRUNK,
    check_names,
    depth_of,
    detect,
    listed,
    plain_name,
)
from bootleg_training.vit import Encoder, resize_positions, sincos_positions

if TYPE_CHECKING:
    from pathlib import Path

    from torch import Tensor

    State = dict[str, Tensor]

HEAD_WIDTH = 64
SINCOS_TOLERANCE = 1e-4
"""A table this near to ours is ours: single precision differs by 1e-7, a trained table by 1e-2 and more."""


@dataclass(frozen=True)
class Foreign:
    """An encoder from elsewhere.

    Attributes:
        layout: its key in :data:`LAYOUTS`.
        config: its shape.
        weights: float32, named as our :class:`Encoder` names its parameters.
        notes: what was assumed or changed, a line each.
    """

    layout: str
    config: EncoderConfig
    weights: State
    notes: list[str]


def read_foreign(
    file: Path, *, layout: str = "auto", heads: int | None = None, image_size: int | None = None
) -> Foreign:
    """Read the encoder of another project.

    Args:
        file: safetensors, or torch's format.
        layout: one of :data:`LAYOUTS`, or ``auto``.
        heads: attention heads, which no tensor's shape tells; None: 64 channels each, but for :data:`HEADS`.
        image_size: pixels; None: what the positions in the file are for.

    Raises:
        CheckpointError: a tensor is missing, unknown, of another shape or not finite, or the file cannot be read.
    """
    tensors, container = read_tensors(file)
    state = {plain_name(name): tensor.float() for name, tensor in tensors.items()}
    if len(state) < len(tensors):
        raise CheckpointError(f"{file} holds {len(tensors) - len(state)} tensors twice, under wrapped names")
    key = detect(state) if layout == "auto" else layout
    check_names(set(state), LAYOUTS[key])
    notes = [f"read {container or 'the whole file'} as {LAYOUTS[key].method}'s layout"]
    config, cls_position_D, table_ND = _shape(state, heads, notes)
    weights = _weights(state, config)
    _check_shapes(weights, config)
    if LAYOUTS[key].layer_scale:
        _fold_layer_scale(weights, state, config)
    if config.cls_token and cls_position_D is not None:
        weights["global_tokens"][0] += cls_position_D
    config = _with_image_size(config, image_size, notes)
    if config.positions == "learned":
        weights["positions_ND"] = resize_positions(table_ND, config.grid)
    broken = sorted(name for name, tensor in weights.items() if not tensor.isfinite().all())
    if broken:
        raise CheckpointError(f"numbers that are not finite in {listed(broken)}")
    return Foreign(key, config, weights, notes)


def _shape(state: State, heads: int | None, notes: list[str]) -> tuple[EncoderConfig, Tensor | None, Tensor]:
    """The encoder's settings, the class token's position if it has one, and the patches' positions."""
    width = state["norm.weight"].numel()
    patch = state[PATCHES].shape[-1] if state[PATCHES].ndim else 0
    _expect(PATCHES, state[PATCHES], (width, 3, patch, patch))
    rows = state[POSITIONS].numel() // width if width else 0
    _expect(POSITIONS, state[POSITIONS], (1, rows, width))
    grid = math.isqrt(rows)
    before = rows - grid**2
    if before > (CLS in state) or not grid:
        raise CheckpointError(
            f"{POSITIONS}: {rows} rows are no square of patches{' and a class token' * (CLS in state)}"
        )
    table_ND = state[POSITIONS][0, before:]
    fixed = (table_ND - sincos_positions(width, grid)).abs().max() <= SINCOS_TOLERANCE if width % 4 == 0 else False
    fields: dict[str, object] = {
        "image_size": grid * patch,
        "patch_size": patch,
        "width": width,
        "depth": depth_of(state),
        "heads": heads or _heads(width, notes),
        "cls_token": CLS in state,
        "registers": state[REGISTERS].numel() // width if REGISTERS in state else 0,
        "mlp_ratio": state["blocks.0.mlp.fc1.bias"].numel() / width,
        "positions": "sincos" if fixed else "learned",
    }
    return _validated(fields), state[POSITIONS][0, 0] if before else None, table_ND


def customary_heads(width: int) -> int | None:
    """Attention heads of a ViT of this width where nothing else is said; None where there is no custom."""
    return HEADS.get(width, None if width % HEAD_WIDTH else width // HEAD_WIDTH)


def _heads(width: int, notes: list[str]) -> int:
    heads = customary_heads(width)
    if heads is None:
        raise CheckpointError(f"heads: the width {width} is no multiple of {HEAD_WIDTH}; say how many with --heads")
    notes.append(f"{heads} heads of {width // heads}, the custom at width {width}: the file does not say")
    return heads


def _weights(state: State, config: EncoderConfig) -> State:
    """All that comes over by name, the patch projection, and the global tokens, as far as shapes allow."""
    width = config.width
    weights = {ours: state[theirs] for theirs, ours in TRUNK.items()}
    for i in range(config.depth):
        weights |= {f"blocks.{i}.{ours}": state[f"blocks.{i}.{theirs}"] for theirs, ours in BLOCK.items()}
    # [D, 3, p, p] of a convolution -> [D, p * p * 3] in the order of Encoder.patchify: row, column, channel.
    weights["patch_embed.weight"] = state[PATCHES].permute(0, 2, 3, 1).reshape(width, -1)
    if config.cls_token:
        _expect(CLS, state[CLS], (1, 1, width))
    if REGISTERS in state:
        _expect(REGISTERS, state[REGISTERS], (1, config.registers, width))
    tokens = [state[name][0] for name in (CLS, REGISTERS) if name in state]
    weights["global_tokens"] = torch.cat([torch.empty(0, width), *tokens])
    return weights


def _fold_layer_scale(weights: State, state: State, config: EncoderConfig) -> None:
    """``gamma * (W x + b)`` as one map: the rows of W, and b, times gamma."""
    for i in range(config.depth):
        for theirs, ours in LAYER_SCALE.items():
            gamma_D = state[f"blocks.{i}.{theirs}"]
            _expect(f"blocks.{i}.{theirs}", gamma_D, (config.width,))
            for part, factor in (("weight", gamma_D[:, None]), ("bias", gamma_D)):
                weights[f"blocks.{i}.{ours}.{part}"] = weights[f"blocks.{i}.{ours}.{part}"] * factor


def _with_image_size(config: EncoderConfig, image_size: int | None, notes: list[str]) -> EncoderConfig:
    if image_size is None or image_size == config.image_size:
        return config
    how = "their fixed table" if config.positions == "sincos" else "their table, resampled bicubically,"
    resized = _validated(config.model_dump() | {"image_size": image_size})
    notes.append(
        f"positions: {how} for {image_size} instead of {config.image_size} pixels: not what it was trained with"
    )
    return resized


def _validated(fields: dict[str, object]) -> EncoderConfig:
    try:
        return EncoderConfig.model_validate(fields)
    except ValidationError as error:
        field, reason = first_fault(error)
        raise CheckpointError(f"{field or 'encoder'}: {reason}") from error


def _check_shapes(weights: State, config: EncoderConfig) -> None:
    with torch.device("meta"):
        wanted = {name: tuple(p.shape) for name, p in Encoder(config).named_parameters()}
    for name, tensor in weights.items():
        _expect(name, tensor, wanted[name])


def _expect(name: str, tensor: Tensor, shape: tuple[int, ...]) -> None:
    if tuple(tensor.shape) != shape:
        raise CheckpointError(f"{name}: its shape is {tuple(tensor.shape)}, {shape} is expected")
