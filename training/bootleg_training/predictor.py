"""The predictor: from what the student saw to what the teacher computes where the student saw nothing.

Shapes: B images, M rectangles, T patches of a rectangle, V visible patches, G global tokens,
D encoder width, P predictor width, Q target layers.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from bootleg_training.vit import INIT_STD, LAYER_NORM_EPS, Block, initialise, sincos_positions

if TYPE_CHECKING:
    from bootleg_training.config import EncoderConfig, PredictorConfig


class Predictor(nn.Module):
    """A narrow ViT over visible tokens, global tokens and mask tokens, with one output for all target layers."""

    positions_NP: Tensor

    def __init__(
        self, config: PredictorConfig, encoder: EncoderConfig, levels: int, level_width: int | None = None
    ) -> None:
        super().__init__()
        assert config.width is not None, "the predictor needs a resolved configuration"
        assert config.depth is not None
        assert config.heads is not None
        width = config.width
        self.joint = config.joint
        self.levels = levels
        self.embed = nn.Linear(encoder.width, width)
        self.mask_token = nn.Parameter(torch.zeros(width))
        self.blocks = nn.ModuleList([Block(width, config.heads) for _ in range(config.depth)])
        self.norm = nn.LayerNorm(width, eps=LAYER_NORM_EPS)
        self.head = nn.Linear(width, levels * (level_width or encoder.width))
        self.register_buffer("positions_NP", sincos_positions(width, encoder.grid), persistent=False)
        initialise(self, self.blocks, encoder.initial)
        nn.init.trunc_normal_(self.mask_token, std=INIT_STD)

    def forward(self, patches_BVD: Tensor, globals_BGD: Tensor, visible_BV: Tensor, rectangles_BMT: Tensor) -> Tensor:
        """Predict every target layer at every position of every rectangle.

        Returns:
            ``[B, M, T, Q, D]``; slot ``i`` of Q belongs to the ``i``-th target layer.
        """
        B, M, T = rectangles_BMT.shape
        runs = 1 if self.joint else M  # rectangles in different rows of the batch cannot see each other
        context_BVP = self.embed(patches_BVD) + self.positions_NP[visible_BV]
        context = torch.cat([context_BVP, self.embed(globals_BGD)], dim=1).repeat_interleave(runs, dim=0)
        masks = (self.mask_token + self.positions_NP[rectangles_BMT]).to(context.dtype)
        masks = masks.reshape(B * runs, M * T // runs, -1)
        x = torch.cat([context, masks], dim=1)
        for block in self.blocks:
            x = block(x)
        out: Tensor = self.head(self.norm(x[:, context.shape[1] :]))
        return out.view(B, M, T, self.levels, -1)
