"""Frozen features of images, for probes and monitoring: one pass computes every kind that is asked for.

The pixels are those the service would compute, whoever asks; nothing here is trained or kept.

Shapes: B images, H and W sides, C channels, N patch tokens, D width, L blocks.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import numpy as np
import torch

from bootleg_bundle.preprocess import PreprocessSpec, apply

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from numpy.typing import NDArray

    from bootleg_training.config import EncoderConfig
    from bootleg_training.data.images import Images
    from bootleg_training.vit import Encoded, Encoder

Kind = Literal["mean", "last4", "blocks", "cls", "patches"]
LAST = 4
TOKENS = 16_384
"""Patch tokens a batch: 256 images of 64. Larger batches are no faster on CPU and cost memory."""


def row_of(kind: Kind, config: EncoderConfig) -> tuple[tuple[int, ...], type[np.floating]]:
    """Shape and type of one image's features.

    Every block's tokens go through the encoder's **final norm** before they are averaged, as in DINOv2's probes, so
    that the last block's row is the embedding and no block's scale decides what a concatenation says.

    ======= ============= =======
    mean    ``[D]``       mean patch token of the last block: the embedding the service returns
    last4   ``[4 * D]``   mean patch token of each of the last four blocks, the earliest first
    blocks  ``[L, D]``    mean patch token of every block
    cls     ``[D]``       the CLS token
    patches ``[N, D]``    all patch tokens of the last block, as float16: normed tokens lie far inside its range
    ======= ============= =======
    """
    width = config.width
    shapes: dict[Kind, tuple[int, ...]] = {
        "mean": (width,),
        "last4": (min(LAST, config.depth) * width,),
        "blocks": (config.depth, width),
        "cls": (width,),
        "patches": (config.patches, width),
    }
    return shapes[kind], np.float16 if kind == "patches" else np.float32


@torch.no_grad()
def stream_features(
    encoder: Encoder, images: Images, spec: PreprocessSpec, kinds: Sequence[Kind], *, precision: str
) -> Iterator[dict[Kind, NDArray[np.floating]]]:
    """Features of the images, a batch at a time, in order.

    Args:
        encoder: on any device; its mode is not changed. ``spec`` must give its input size.
        images: uint8 ``[images, h, w, 3]``.
        spec: preprocessing; applied by the same function as in the service.
        kinds: what to compute, see :func:`row_of`.
        precision: ``bf16`` runs the encoder under autocast; ``fp32`` does not.

    Yields:
        By kind ``[B, *row]`` on the CPU.
    """
    device = next(encoder.parameters()).device
    batch = max(1, TOKENS // encoder.config.patches)
    first = _first_block(kinds, encoder.config.depth)
    taps = tuple(range(first, encoder.config.depth))
    for start in range(0, len(images), batch):
        x_BHWC = network_input(spec, images[start : start + batch], device)
        with torch.autocast(device.type, torch.bfloat16, enabled=precision == "bf16"):
            encoded = encoder(x_BHWC, taps=taps)
            means_BLD = [encoder.norm(tap).float().mean(dim=1) for tap in encoded.taps]
        means_BLD.append(encoded.patches.float().mean(dim=1))
        yield {kind: _pick(kind, encoded, means_BLD) for kind in kinds}


def pixels_of(spec: PreprocessSpec, batch: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Apply the preprocessing to a batch ``[B, h, w, 3]``; one that has the input's size already is only copied."""
    if spec.crop_ratio == 1.0 and batch.shape[1:3] == (spec.height, spec.width):
        return np.array(batch)
    return np.stack([apply(spec, image) for image in batch])


def network_input(spec: PreprocessSpec, batch: NDArray[np.uint8], device: torch.device) -> torch.Tensor:
    """What an encoder takes for a batch ``[B, h, w, 3]``: preprocessed and normalised, float32 ``[B, H, W, 3]``."""
    pixels_BHWC = torch.from_numpy(pixels_of(spec, batch)).to(device)
    mean, std = torch.tensor(spec.mean, device=device), torch.tensor(spec.std, device=device)
    return (pixels_BHWC.float() / 255 - mean) / std


def mean_patch_features(
    encoder: Encoder, images: Images, spec: PreprocessSpec, *, precision: str = "fp32"
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
    batches = stream_features(encoder, images, spec, ("mean",), precision=precision)
    return torch.cat([torch.from_numpy(batch["mean"]) for batch in batches])


def _first_block(kinds: Sequence[Kind], depth: int) -> int:
    """The earliest block whose tokens are needed; ``depth`` where the last one's are enough."""
    if "blocks" in kinds:
        return 1
    return max(1, depth - LAST + 1) if "last4" in kinds else depth


def _pick(kind: Kind, encoded: Encoded, means: list[torch.Tensor]) -> NDArray[np.floating]:
    match kind:
        case "mean":
            picked = means[-1]
        case "last4":
            picked = torch.cat(means[-LAST:], dim=1)
        case "blocks":
            picked = torch.stack(means, dim=1)
        case "cls":
            picked = encoded.globals[:, 0].float()
        case "patches":
            picked = encoded.patches.half()
    array: NDArray[np.floating] = picked.cpu().numpy()
    return array
