"""The module that is exported: 8-bit pixels in, embedding, patch tokens and hidden layers out.

Export makes one for each precision; whatever computes inside, the outputs are float32.

Shapes: B images, H and W sides, N patch tokens, g grid side, D width, Q hidden layers, S tokens of any kind.
"""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor, nn

from bootleg_bundle.manifest import GRAPH_OUTPUTS

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from bootleg_bundle.preprocess import PreprocessSpec
    from bootleg_training.vit import Encoder

REFERENCE_BATCH = 16

POOLING = "mean of the patch tokens after the final norm"


class ServingGraph(nn.Module):
    """Encoder with normalisation in front and pooling behind, so that one forward pass serves every route.

    Normalisation and pooling are float32 whatever the encoder computes in.
    """

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
        images = (pixels.float() / 255 - self.mean) / self.std
        encoded = self.encoder(images.to(self.encoder.global_tokens.dtype), taps=self.layers)
        tokens_BND: Tensor = encoded.patches.float()
        taps_BQND = torch.stack(encoded.taps, dim=1).float()
        grid, width = self.encoder.config.grid, tokens_BND.shape[2]
        # In one mean: by itself, ONNX Runtime sums the embedding of a single image in another order than a batch's.
        means_BQD = torch.cat([taps_BQND, tokens_BND[:, None]], dim=1).mean(dim=2)
        return (
            means_BQD[:, -1],
            tokens_BND.reshape(-1, grid, grid, width),
            means_BQD[:, :-1],
            taps_BQND.reshape(-1, len(self.layers), grid, grid, width),
        )


class FlatLinear(nn.Module):
    """A linear layer on a matrix: exported as Gemm, whose integer kernel takes the bias along.

    On ``[B, S, D]`` it would be MatMul and Add, a pass over the result more.
    """

    def __init__(self, linear: nn.Linear) -> None:
        super().__init__()
        self.linear = linear

    def forward(self, x_BSD: Tensor) -> Tensor:
        """Map the last axis."""
        flat = nn.functional.linear(x_BSD.reshape(-1, x_BSD.shape[-1]), self.linear.weight, self.linear.bias)
        return flat.reshape(*x_BSD.shape[:-1], flat.shape[-1])


def with_flat_linears(graph: ServingGraph) -> ServingGraph:
    """Copy a graph with every linear layer of its encoder a :class:`FlatLinear`."""
    flat = copy.deepcopy(graph)
    for module in list(flat.encoder.modules()):
        for name, child in list(module.named_children()):
            if isinstance(child, nn.Linear):
                setattr(module, name, FlatLinear(child))
    return flat


def in_dtype(graph: ServingGraph, dtype: torch.dtype) -> ServingGraph:
    """Copy a graph with its encoder, positions included, in another floating type."""
    cast = copy.deepcopy(graph)
    cast.encoder.to(dtype)
    return cast


def reference_outputs(graph: ServingGraph, pixels: NDArray[np.uint8]) -> dict[str, NDArray[np.float32]]:
    """What PyTorch computes in float32, the reference of every comparison, for uint8 ``[n, H, W, 3]``."""
    with torch.no_grad():
        parts = [graph(batch) for batch in torch.split(torch.from_numpy(pixels), REFERENCE_BATCH)]
    return {name: np.concatenate([part[i].numpy() for part in parts]) for i, name in enumerate(GRAPH_OUTPUTS)}
