"""What a head reads of a frozen encoder: computed once, kept in a file, for a head is trained on it many times over.

Shapes: B images, g patches along a side, D width, Q hidden layers, K features of a patch, n images in all.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import torch

from bootleg_training.probes.features import TOKENS, network_input
from bootleg_training.progress import meter

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from numpy.typing import NDArray

    from bootleg_bundle.preprocess import PreprocessSpec
    from bootleg_training.heads.config import TokenOutput
    from bootleg_training.heads.model import SegmentationHead
    from bootleg_training.vit import Encoder

    Cut = Callable[[int, int], NDArray[np.uint8]]

Precision = Literal["bf16", "fp32"]


@dataclass(frozen=True)
class Frozen:
    """An encoder that is not trained, at the input size of its heads.

    Attributes:
        encoder: on the device that computes.
        spec: of its input, whose images are cropped already: ``crop_ratio`` is 1.
        layers: the blocks of ``layer_tokens``.
    """

    encoder: Encoder
    spec: PreprocessSpec
    layers: tuple[int, ...]

    def tokens(self, pixels_BHWC: NDArray[np.uint8], output: TokenOutput, precision: Precision) -> torch.Tensor:
        """What the exported graph returns: ``patch_tokens`` ``[B, g, g, D]``, ``layer_tokens`` ``[B, Q, g, g, D]``."""
        device, grid = next(self.encoder.parameters()).device, self.encoder.config.grid
        x_BHWC = network_input(self.spec, pixels_BHWC, device)
        with torch.autocast(device.type, torch.bfloat16, enabled=precision == "bf16"):
            if output == "patch_tokens":
                tokens: torch.Tensor = self.encoder(x_BHWC).patches
            else:
                tokens = torch.stack(self.encoder(x_BHWC, taps=self.layers, norm=False).taps, dim=1)
        return tokens.float().reshape(*tokens.shape[:-2], grid, grid, tokens.shape[-1])


@torch.no_grad()
def keep_features(
    file: Path,
    frozen: Frozen,
    head: SegmentationHead,
    output: TokenOutput,
    images: tuple[Cut, int],
    *,
    precision: Precision,
    title: str,
) -> NDArray[np.floating]:
    """Write a head's features of images and map them into memory.

    Args:
        file: to write; half as large where ``precision`` is ``bf16``, for normalised tokens lie far inside float16.
        frozen: the encoder.
        head: any of its kind; features have no parameters.
        output: of the encoder, which the head reads.
        images: what gives the images of a range of numbers, uint8 ``[B, H, W, 3]``, and their number n.
        precision: of the encoder's pass.
        title: of the progress display.

    Returns:
        ``[n, g, g, K]``, read-only.
    """
    cut, count = images
    batch = max(1, TOKENS // frozen.encoder.config.patches)
    kept: np.memmap[Any, np.dtype[np.floating]] | None = None
    dtype = np.float16 if precision == "bf16" else np.float32
    with meter(title, count) as shown:
        for start in range(0, count, batch):
            x_BggK = head.features(frozen.tokens(cut(start, start + batch), output, precision)).cpu().numpy()
            if kept is None:
                kept = np.lib.format.open_memmap(file, "w+", dtype, (count, *x_BggK.shape[1:]))
            kept[start : start + len(x_BggK)] = x_BggK
            shown.update(start + len(x_BggK))
    assert kept is not None, "there are no images"
    kept.flush()
    return np.load(file, mmap_mode="r", allow_pickle=False)  # type: ignore[no-any-return]
