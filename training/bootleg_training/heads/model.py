"""The two heads: a linear map of the patch tokens, and light convolutions on the hidden layers.

The checkpoint reader builds them and export writes them as graphs; they must stay exportable, at any batch, and free
of data and training concerns.

Shapes: B images, g patches along a side, D width of a token, Q hidden layers, K features of a patch, W channels,
u logits along one side of a patch, C classes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from bootleg_training.vit import LAYER_NORM_EPS

if TYPE_CHECKING:
    from bootleg_training.heads.config import HeadConfig


class SegmentationHead(nn.Module):
    """Tokens of the encoder to logits, in two steps, so that training can keep the first one's result."""

    project: nn.Linear

    def features(self, tokens: Tensor) -> Tensor:
        """``[B, g, g, K]`` of the encoder's output, without any parameter."""
        raise NotImplementedError

    def decode(self, x_BggK: Tensor) -> Tensor:
        """Logits ``[B, C, g * u, g * u]`` of features."""
        raise NotImplementedError

    def forward(self, tokens: Tensor) -> Tensor:
        """Logits ``[B, C, g * u, g * u]`` of the encoder's output."""
        return self.decode(self.features(tokens))

    @torch.no_grad()
    def absorb(self, mean_K: Tensor, std_K: Tensor) -> None:
        """Take features as they are from here on, after a training on ``(features - mean) / std``."""
        self.project.weight.div_(std_K)
        self.project.bias.sub_(self.project.weight @ mean_K)


class LinearHead(SegmentationHead):
    """A linear map, the same for every patch: the 1 x 1 convolution of the linear segmentation probe."""

    def __init__(self, width: int, classes: int) -> None:
        super().__init__()
        self.project = nn.Linear(width, classes)
        nn.init.zeros_(self.project.weight)
        nn.init.zeros_(self.project.bias)

    def features(self, tokens: Tensor) -> Tensor:
        """``patch_tokens`` ``[B, g, g, D]`` as they are: the encoder has normalised them."""
        return tokens

    def decode(self, x_BggK: Tensor) -> Tensor:
        """Logits ``[B, C, g, g]``."""
        return self.project(x_BggK).permute(0, 3, 1, 2)  # type: ignore[no-any-return]


class Mixer(nn.Module):
    """Depthwise 3 x 3 and a pointwise GELU MLP, added to the stream: a ConvNeXt block (Liu et al., 2022), unnormed."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.depthwise = nn.Conv2d(channels, channels, 3, padding=1, groups=channels)
        self.widen = nn.Conv2d(channels, 2 * channels, 1)
        self.narrow = nn.Conv2d(2 * channels, channels, 1)

    def forward(self, x_BWhw: Tensor) -> Tensor:
        """Map a stream ``[B, W, h, w]`` to the next."""
        return x_BWhw + self.narrow(F.gelu(self.widen(self.depthwise(x_BWhw))))  # type: ignore[no-any-return]


class LayersHead(SegmentationHead):
    """Every hidden layer that Bootleg was trained to predict, mixed between neighbours and upsampled."""

    def __init__(self, width: int, layers: int, config: HeadConfig) -> None:
        super().__init__()
        channels, upscale = config.channels, config.upscale
        self.project = nn.Linear(layers * width, channels)  # of the concatenation: the sum of one map a layer
        self.coarse = Mixer(channels)
        self.enlarge = nn.Conv2d(channels, channels * upscale**2, 1)
        self.shuffle = nn.PixelShuffle(upscale)
        self.fine = Mixer(channels)
        self.classify = nn.Conv2d(channels, len(config.classes), 1)

    def features(self, tokens: Tensor) -> Tensor:
        """``layer_tokens`` ``[B, Q, g, g, D]``, each token normalised as Bootleg's targets are, side by side."""
        normal = F.layer_norm(tokens, tokens.shape[-1:], eps=LAYER_NORM_EPS)
        return normal.permute(0, 2, 3, 1, 4).flatten(3)

    def decode(self, x_BggK: Tensor) -> Tensor:
        """Logits ``[B, C, g * u, g * u]``."""
        x_BWgg = self.coarse(F.gelu(self.project(x_BggK)).permute(0, 3, 1, 2))
        x_BWhw = self.fine(self.shuffle(self.enlarge(x_BWgg)))
        return self.classify(x_BWhw)  # type: ignore[no-any-return]


def build_head(config: HeadConfig, width: int, layers: int) -> SegmentationHead:
    """Make a head for an encoder.

    Args:
        config: of the head.
        width: D, the encoder's.
        layers: Q, how many hidden layers ``layer_tokens`` holds.
    """
    return LinearHead(width, len(config.classes)) if config.kind == "linear" else LayersHead(width, layers, config)
