"""The vision transformer: encoder (student and teacher share it) and the block it is made of.

The checkpoint reader and export import this module; it must stay exportable and free of data and
training concerns. Images are channels-last, as the service receives them.

Shapes: B images, H height, W width of an image, C channels, N patch tokens, V visible patch tokens,
G global tokens, S tokens of a sequence, D width of the stream.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

if TYPE_CHECKING:
    from bootleg_training.config import EncoderConfig

LAYER_NORM_EPS = 1e-6
INIT_STD = 0.02
INIT_WIDTH = 384
TAPS = ("attention", "mid", "mlp", "block")


def sincos_positions(width: int, grid: int) -> Tensor:
    """Fixed 2-D sin-cos table (MAE, I-JEPA): columns in the first half of the channels, rows in the second.

    Returns:
        float32 ``[grid * grid, width]``, raster order; ``width`` must be a multiple of 4.
    """
    quarter = width // 4
    frequency = 1.0 / 10000 ** (torch.arange(quarter, dtype=torch.float64) / quarter)
    angle = torch.arange(grid, dtype=torch.float64)[:, None] * frequency[None]
    axis = torch.cat([angle.sin(), angle.cos()], dim=1)  # [grid, width / 2]
    columns = axis[None].expand(grid, grid, -1)
    rows = axis[:, None].expand(grid, grid, -1)
    return torch.cat([columns, rows], dim=2).reshape(grid * grid, width).float()


def resize_positions(table_ND: Tensor, grid: int) -> Tensor:
    """Resample a learned position table to another grid: bicubic, antialiased where it shrinks (timm's way).

    Args:
        table_ND: ``[side * side, D]``, raster order.
        grid: the new side.

    Returns:
        ``[grid * grid, D]``; the table itself when ``grid`` is its side.
    """
    side = math.isqrt(len(table_ND))
    assert side**2 == len(table_ND), f"a table of {len(table_ND)} positions is no square"
    if side == grid:
        return table_ND
    table_1Dgg = table_ND.t().reshape(1, -1, side, side)
    resized_1Dgg = F.interpolate(table_1Dgg, size=(grid, grid), mode="bicubic", antialias=True)
    return resized_1Dgg.reshape(-1, grid * grid).t().contiguous()


def attend(q_BhSd: Tensor, k_BhSd: Tensor, v_BhSd: Tensor) -> Tensor:
    """Softmax attention over whole sequences, ``[B, heads, S, d]`` in and out.

    The fused kernel is slow in bfloat16 on the CPU, its backward pass most of all (torch 2.13 with
    AVX-512; ``benchmarks/training_step.py`` measures it). Elsewhere the fused kernel is right.
    """
    if q_BhSd.device.type == "cpu" and torch.is_autocast_enabled("cpu"):
        weights = (q_BhSd * q_BhSd.shape[-1] ** -0.5 @ k_BhSd.transpose(-1, -2)).softmax(-1)
        return torch.matmul(weights.to(v_BhSd.dtype), v_BhSd)
    return F.scaled_dot_product_attention(q_BhSd, k_BhSd, v_BhSd)


class Block(nn.Module):
    """Pre-norm transformer block: attention, then a GELU MLP, each added to the stream."""

    def __init__(self, width: int, heads: int, mlp_ratio: float = 4.0) -> None:
        super().__init__()
        hidden = int(width * mlp_ratio)
        self.heads = heads
        self.norm1 = nn.LayerNorm(width, eps=LAYER_NORM_EPS)
        self.qkv = nn.Linear(width, 3 * width)
        self.proj = nn.Linear(width, width)
        self.norm2 = nn.LayerNorm(width, eps=LAYER_NORM_EPS)
        self.fc1 = nn.Linear(width, hidden)
        self.fc2 = nn.Linear(hidden, width)

    def forward(self, x_BSD: Tensor) -> Tensor:
        """Map a stream ``[B, S, D]`` to the next."""
        return self.signals(x_BSD)[-1]

    def signals(self, x_BSD: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """The places to tap, in the order of ``TAPS``, each ``[B, S, D]``; the last is the block's output."""
        B, S, D = x_BSD.shape
        qkv = self.qkv(self.norm1(x_BSD)).view(B, S, 3, self.heads, D // self.heads)
        q, k, v = qkv.permute(2, 0, 3, 1, 4).unbind(0)
        attention = self.proj(attend(q, k, v).transpose(1, 2).reshape(B, S, D))
        mid = x_BSD + attention
        mlp = self.fc2(F.gelu(self.fc1(self.norm2(mid))))
        return attention, mid, mlp, mid + mlp


def initialise(module: nn.Module, blocks: nn.ModuleList, initial: Literal["fixed", "scaled"]) -> None:
    """Truncated normal weights, zero biases; each block's two output maps divided by sqrt(2 l) (I-JEPA).

    Args:
        module: an encoder or a predictor.
        blocks: its blocks.
        initial: ``fixed``, one standard deviation, I-JEPA's. ``scaled``: a larger one for maps whose narrower side is
            below 384. What a map adds goes with the root of its width times that deviation, and blocks of width 64
            add next to nothing, so that a teacher's hidden layers, Bootleg's targets, all begin as one.
    """
    for child in module.modules():
        if isinstance(child, nn.Linear):
            gain = max(1.0, math.sqrt(INIT_WIDTH / min(child.weight.shape))) if initial == "scaled" else 1.0
            nn.init.trunc_normal_(child.weight, std=INIT_STD * gain)
            nn.init.zeros_(child.bias)
    with torch.no_grad():
        for depth, block in enumerate(blocks, start=1):
            assert isinstance(block, Block)
            block.proj.weight.div_(math.sqrt(2 * depth))
            block.fc2.weight.div_(math.sqrt(2 * depth))


@dataclass(frozen=True)
class Encoded:
    """What an encoder returns.

    Attributes:
        patches: ``[B, N or V, D]`` after the final norm.
        globals: ``[B, G, D]`` after the final norm, CLS first.
        taps: for each requested block, the patch rows ``[B, N or V, D]`` of the signal tapped there.
    """

    patches: Tensor
    globals: Tensor
    taps: list[Tensor]


class Encoder(nn.Module):
    """The ViT. ``forward`` takes normalised channels-last images ``[B, H, W, 3]``."""

    positions_ND: Tensor

    def __init__(self, config: EncoderConfig) -> None:
        super().__init__()
        self.config = config
        self.patch_embed = nn.Linear(3 * config.patch_size**2, config.width)
        self.global_tokens = nn.Parameter(torch.zeros(config.global_tokens, config.width))
        self.blocks = nn.ModuleList([Block(config.width, config.heads, config.mlp_ratio) for _ in range(config.depth)])
        self.norm = nn.LayerNorm(config.width, eps=LAYER_NORM_EPS)
        positions_ND = sincos_positions(config.width, config.grid)
        if config.positions == "learned":
            self.positions_ND = nn.Parameter(positions_ND)
        else:
            self.register_buffer("positions_ND", positions_ND, persistent=False)
        initialise(self, self.blocks, config.initial)
        nn.init.trunc_normal_(self.global_tokens, std=INIT_STD)
        # Position entries have unit amplitude whatever the patch. A patch of 4 pixels has 48 inputs, one of 16 has
        # 768: with one std for both, small patches drown in their positions and targets hold little but position.
        # This keeps the ratio that patch 16 has, where it is INIT_STD exactly.
        nn.init.trunc_normal_(self.patch_embed.weight, std=INIT_STD * 16 / config.patch_size)

    def patchify(self, images_BHWC: Tensor) -> Tensor:
        """Cut images into raster-ordered patches ``[B, N, p * p * 3]``."""
        B, p, g = images_BHWC.shape[0], self.config.patch_size, self.config.grid
        return images_BHWC.view(B, g, p, g, p, 3).transpose(2, 3).reshape(B, g * g, p * p * 3)

    def forward(
        self,
        images_BHWC: Tensor,
        visible_BV: Tensor | None = None,
        taps: tuple[int, ...] = (),
        *,
        tap: str = "block",
        norm: bool = True,
    ) -> Encoded:
        """Encode images, or the visible patches of images.

        Args:
            images_BHWC: normalised images ``[B, H, W, 3]``.
            visible_BV: indices of the patches to see; ``None`` for all.
            taps: rising 1-based blocks that are tapped.
            tap: where in those blocks, one of ``TAPS``.
            norm: False stops behind the last tap and leaves ``patches`` and ``globals`` unnormalised.
        """
        pixels = self.patchify(images_BHWC)
        positions = self.positions_ND
        if visible_BV is not None:  # before the projection, so that hidden patches cost nothing and leak nothing
            pixels = pixels.gather(1, visible_BV[:, :, None].expand(-1, -1, pixels.shape[2]))
            positions = positions[visible_BV]
        x = self.patch_embed(pixels) + positions
        N = x.shape[1]
        x_BSD = torch.cat([x, self.global_tokens.to(x.dtype).expand(x.shape[0], -1, -1)], dim=1)
        tapped: list[Tensor] = []
        for depth, block in enumerate(self.blocks, start=1):
            if depth in taps and tap != "block":
                signals = block.signals(x_BSD)  # type: ignore[operator]
                tapped.append(signals[TAPS.index(tap)][:, :N])
                x_BSD = signals[-1]
            else:
                x_BSD = block(x_BSD)
                if depth in taps:
                    tapped.append(x_BSD[:, :N])
            if not norm and len(tapped) == len(taps):
                break
        if norm:
            x_BSD = self.norm(x_BSD)
        return Encoded(x_BSD[:, :N], x_BSD[:, N:], tapped)
