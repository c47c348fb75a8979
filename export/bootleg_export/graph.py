"""The module that is exported: 8-bit pixels in, embedding, patch tokens and hidden layers out.

Shapes: B images, H and W sides, N patch tokens, g grid side, D width, Q hidden layers.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

if TYPE_CHECKING:
    from bootleg_bundle.preprocess import PreprocessSpec
    from bootleg_training.vit import Encoder

POOLING = "mean of the patch tokens after the final norm"


class ServingGraph(nn.Module):
    """Encoder with normalisation in front and pooling behind, so that one forward pass serves every route."""

    mean: Tensor
    std: Tensor

    def __init__(self, encoder: Encoder, spec: PreprocessSpec, layers: tuple[int, ...]) -> None:
        super().__init__()
        self.encoder = encoder
        self.layers = layers
        self.register_buffer("mean", torch.tensor(spec.mean))
        self.register_buffer("std", torch.tensor(spec.std))

    def forward(self, pixels: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Encode uint8 ``[B, H, W, 3]``.

        Returns:
            ``embedding`` ``[B, D]``, ``patch_tokens`` ``[B, g, g, D]``, ``layers`` ``[B, Q, D]`` and ``layer_tokens``
            ``[B, Q, g, g, D]``.
        """
        # The cast comes first: TensorRT accepts no other operation on uint8.
        encoded = self.encoder((pixels.float() / 255 - self.mean) / self.std, taps=self.layers)
        tokens_BND: Tensor = encoded.patches
        grid = self.encoder.config.grid
        taps_BQND = torch.stack(encoded.taps, dim=1)
        width = tokens_BND.shape[2]
        return (
            tokens_BND.mean(dim=1),
            tokens_BND.reshape(-1, grid, grid, width),
            taps_BQND.mean(dim=2),
            taps_BQND.reshape(-1, len(self.layers), grid, grid, width),
        )
