"""Weights files as other projects write them, and their forward pass written a second time, in their style.

Nothing of ours is used here: a strided convolution on channels-first images, a class token in front with
the first row of the position table, registers behind it, LayerScale on each branch, and attention and
the norm spelled out.
"""

from __future__ import annotations

import math

import torch
from torch.nn import functional as F

WIDTH, DEPTH, HEADS, PATCH, GRID, HIDDEN = 32, 3, 4, 4, 7, 96
SIDE = GRID * PATCH


def sincos(width=WIDTH, grid=GRID):
    """MAE's and I-JEPA's fixed table, entry by entry."""
    table = torch.zeros(grid * grid, width, dtype=torch.float64)
    for place in range(grid * grid):
        for axis, coordinate in enumerate((place % grid, place // grid)):
            for i in range(width // 4):
                angle = coordinate / 10000 ** (i / (width / 4))
                table[place, axis * width // 2 + i] = math.sin(angle)
                table[place, axis * width // 2 + width // 4 + i] = math.cos(angle)
    return table.float()


def vit(seed=0, *, width=WIDTH, depth=DEPTH, patch=PATCH, grid=GRID, hidden=HIDDEN, cls, positions, **more):
    """A state dict by timm's names; ``layer_scale`` and ``registers`` make it DINOv2's."""
    generator = torch.Generator().manual_seed(seed)

    def draw(*shape, std=0.15, mean=0.0):
        return mean + std * torch.randn(*shape, generator=generator)

    table = sincos(width, grid)[None] if positions == "sincos" else draw(1, grid * grid, width, std=0.7)
    state = {}
    if cls:
        first = torch.zeros(1, 1, width) if positions == "sincos" else draw(1, 1, width, std=0.7)
        state["cls_token"] = draw(1, 1, width, std=0.5)
        table = torch.cat([first, table], dim=1)
    state["pos_embed"] = table
    if more.get("registers"):
        state["register_tokens"] = draw(1, more["registers"], width, std=0.5)
    state["patch_embed.proj.weight"] = draw(width, 3, patch, patch)
    state["patch_embed.proj.bias"] = draw(width)
    shapes = {"attn.qkv": (3 * width, width), "attn.proj": (width, width)}
    shapes |= {"mlp.fc1": (hidden, width), "mlp.fc2": (width, hidden)}
    for i in range(depth):
        for name in ("norm1", "norm2"):
            state[f"blocks.{i}.{name}.weight"] = draw(width, mean=1.0)
            state[f"blocks.{i}.{name}.bias"] = draw(width)
        for name, shape in shapes.items():
            state[f"blocks.{i}.{name}.weight"] = draw(*shape)
            state[f"blocks.{i}.{name}.bias"] = draw(shape[0])
        if more.get("layer_scale"):
            state[f"blocks.{i}.ls1.gamma"] = draw(width, std=0.3, mean=0.6)
            state[f"blocks.{i}.ls2.gamma"] = draw(width, std=0.3, mean=0.6)
    state["norm.weight"] = draw(width, mean=1.0)
    state["norm.bias"] = draw(width)
    return state


def norm(x, state, name):
    centred = x - x.mean(-1, keepdim=True)
    scaled = centred / (centred.square().mean(-1, keepdim=True) + 1e-6).sqrt()
    return scaled * state[f"{name}.weight"] + state[f"{name}.bias"]


def linear(x, state, name):
    return x @ state[f"{name}.weight"].T + state[f"{name}.bias"]


def forward(state, images_BCHW, heads=HEADS):
    """The foreign encoder: patch tokens, and the tokens before them, both after the final norm."""
    patch = state["patch_embed.proj.weight"].shape[-1]
    x = F.conv2d(images_BCHW, state["patch_embed.proj.weight"], state["patch_embed.proj.bias"], stride=patch)
    x = x.flatten(2).transpose(1, 2)
    before = 0
    if "cls_token" in state:
        x = torch.cat([state["cls_token"].expand(len(x), -1, -1), x], dim=1)
        before = 1
    x = x + state["pos_embed"]
    if "register_tokens" in state:
        registers = state["register_tokens"].expand(len(x), -1, -1)
        x = torch.cat([x[:, :1], registers, x[:, 1:]], dim=1)
        before += registers.shape[1]
    depth = sum(name.endswith("norm1.weight") for name in state)
    for i in range(depth):
        at = f"blocks.{i}."
        B, N, C = x.shape
        qkv = linear(norm(x, state, at + "norm1"), state, at + "attn.qkv")
        q, k, v = qkv.reshape(B, N, 3, heads, C // heads).permute(2, 0, 3, 1, 4)
        weights = (q @ k.transpose(-2, -1) * (C // heads) ** -0.5).softmax(dim=-1)
        mixed = linear((weights @ v).transpose(1, 2).reshape(B, N, C), state, at + "attn.proj")
        x = x + mixed * state.get(at + "ls1.gamma", 1.0)
        h = linear(norm(x, state, at + "norm2"), state, at + "mlp.fc1")
        h = linear(h * 0.5 * (1 + torch.erf(h / math.sqrt(2))), state, at + "mlp.fc2")
        x = x + h * state.get(at + "ls2.gamma", 1.0)
    x = norm(x, state, "norm")
    return x[:, before:], x[:, :before]


def ijepa(seed=0, **changes):
    """The trainer's file: encoder, its moving average, predictor, optimiser and where it stood."""
    options = {"cls": False, "positions": "sincos", **changes}
    average, student = vit(seed, **options), vit(seed + 1, **options)
    return {
        "encoder": {f"module.{name}": tensor for name, tensor in student.items()},
        "predictor": {"module.mask_token": torch.zeros(1, 1, 8)},
        "target_encoder": {f"module.{name}": tensor for name, tensor in average.items()},
        "opt": {"state": {}, "param_groups": [{"lr": 1e-3}]},
        "scaler": None,
        "epoch": 300,
    }, average


def mae(seed=0, **changes):
    """The pretraining model, decoder included."""
    state = vit(seed, **{"cls": True, "positions": "sincos", **changes})
    decoder = {"mask_token": torch.ones(1, 1, 8), "decoder_pos_embed": torch.ones(1, 50, 8)}
    decoder |= {"decoder_blocks.0.norm1.weight": torch.ones(8), "decoder_pred.bias": torch.ones(8)}
    return {"model": {**state, **decoder}}, state


def dinov2(seed=0, *, chunks=0, teacher=False, **changes):
    """The published weights, or a training's dump of its teacher; in ``chunks`` as FSDP trains it."""
    options = {"cls": True, "positions": "learned", "layer_scale": True, "registers": 4, **changes}
    state = vit(seed, **options)
    written = {"mask_token": torch.ones(1, WIDTH), **state}
    if chunks:
        written = {chunked(name, chunks): tensor for name, tensor in written.items()}
    if teacher:
        written = {f"backbone.{name}": tensor for name, tensor in written.items()}
        written |= {"dino_head.mlp.0.weight": torch.ones(8, 8), "ibot_head.last_layer.weight_g": torch.ones(8)}
        return {"teacher": written}, state
    return written, state


def chunked(name, size):
    if not name.startswith("blocks."):
        return name
    _, index, rest = name.split(".", 2)
    return f"blocks.{int(index) // size}.{index}.{rest}"
