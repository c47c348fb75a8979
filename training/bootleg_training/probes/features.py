"""Frozen features of packed images, for probes and monitoring.

Shapes: B images, H and W sides, N patch tokens, D width.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch

from bootleg_bundle.preprocess import PreprocessSpec, apply

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from bootleg_training.vit import Encoder

BATCH = 256


@torch.no_grad()
def mean_patch_features(
    encoder: Encoder, images: NDArray[np.uint8], spec: PreprocessSpec, *, precision: str = "fp32"
) -> torch.Tensor:
    """The embedding the service would return: the mean patch token after the final norm.

    Args:
        encoder: on any device; its mode is not changed.
        images: uint8 ``[images, h, w, 3]``.
        spec: preprocessing; applied by the same function as in the service.
        precision: ``bf16`` runs under autocast.

    Returns:
        float32 ``[images, D]`` on the CPU.
    """
    parameter = next(encoder.parameters())
    device = parameter.device
    mean, std = torch.tensor(spec.mean, device=device), torch.tensor(spec.std, device=device)
    out: list[torch.Tensor] = []
    for start in range(0, len(images), BATCH):
        batch = np.stack([apply(spec, image) for image in images[start : start + BATCH]])
        pixels_BHWC = (torch.from_numpy(batch).to(device).float() / 255 - mean) / std
        with torch.autocast(device.type, torch.bfloat16, enabled=precision == "bf16"):
            tokens_BND = encoder(pixels_BHWC).patches
        out.append(tokens_BND.float().mean(dim=1).cpu())
    return torch.cat(out)
