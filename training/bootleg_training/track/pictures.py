"""Pictures of patch tokens: their first three principal components as red, green and blue.

Parts of a picture that an encoder takes for the same get the same colour, in all pictures alike, for
the components are fitted to all of them jointly.

Shapes: B images, N patch tokens, D width, G patches along a side.
"""

from __future__ import annotations

import base64
import io
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from PIL import Image
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch.nn import functional as F

from bootleg_bundle.errors import CheckpointError
from bootleg_bundle.preprocess import PreprocessSpec
from bootleg_training.checkpoint import load_encoder
from bootleg_training.config import RunConfig
from bootleg_training.data.order import sample_indices
from bootleg_training.objective import TARGET_EPS
from bootleg_training.probes.features import network_input, pixels_of
from bootleg_training.vit import Encoder

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from torch import Tensor

    from bootleg_training.data.pack import Pack
    from bootleg_training.track.folder import RunFolder

IMAGES = 8
SEED = 7
"""Of the choice of images, so that the pages of two runs on the same pack show the same."""


@dataclass(frozen=True)
class Picture:
    """One picture as a data URI, and what it shows in words."""

    uri: str
    alt: str


def pictures(run: RunFolder, pack: Pack) -> dict[str, list[Picture]]:
    """Rows of the table of pictures by name: the images, then the first and the last target layer.

    Raises:
        CheckpointError: the run has neither a checkpoint nor a state to take an encoder from, or a damaged one.
    """
    encoder = latest_encoder(run)
    size = encoder.config.image_size
    count = min(IMAGES, len(pack.images))
    index = np.sort(sample_indices(len(pack.images), SEED, 0, count))
    spec = PreprocessSpec(height=size, width=size)
    seen = pixels_of(spec, pack.images[index])
    rows = {"image": [Picture(data_uri(image), f"image {place + 1}") for place, image in enumerate(seen)]}
    layers = run.layers or (encoder.config.depth,)
    layers = tuple(sorted({layers[0], layers[-1]}))
    with torch.no_grad():
        taps = encoder(network_input(spec, seen, torch.device("cpu")), taps=layers).taps
    for layer, z_BND in zip(layers, taps, strict=True):
        shown = components(F.layer_norm(z_BND, z_BND.shape[2:], eps=TARGET_EPS))
        rows[f"layer {layer}"] = [
            Picture(
                data_uri(picture), f"patch tokens of layer {layer} for image {place + 1}, similar ones in one colour"
            )
            for place, picture in enumerate(shown)
        ]
    return rows


def latest_encoder(run: RunFolder) -> Encoder:
    """The encoder of the run's checkpoint; before there is one, the teacher of its newest state.

    Raises:
        CheckpointError: there is neither, or it is damaged.
    """
    if run.checkpoint:
        return load_encoder(run.path / "checkpoint")[0]
    pointer = run.path / "state" / "latest"
    if not pointer.is_file():
        raise CheckpointError(f"{run.path} has neither a checkpoint nor a saved state yet")
    source = pointer.parent / pointer.read_text(encoding="utf-8").strip()
    try:
        encoder = Encoder(RunConfig.model_validate(run.config).encoder)
        tensors = load_file(source / "state.safetensors")
        part = "model.teacher."
        encoder.load_state_dict({k.removeprefix(part): v for k, v in tensors.items() if k.startswith(part)})
    except (OSError, ValueError, RuntimeError, SafetensorError) as error:
        raise CheckpointError(f"the resume state {source} cannot be read") from error
    return encoder.eval()


def components(tokens_BND: Tensor) -> NDArray[np.uint8]:
    """First three principal components of all tokens as colours: uint8 ``[B, G, G, 3]``.

    Each component is stretched from its 1st to its 99th percentile; its sign is chosen so that its largest loading is
    positive, since a decomposition leaves that open.
    """
    B, N, D = tokens_BND.shape
    flat = tokens_BND.reshape(B * N, D).double()
    centred = flat - flat.mean(dim=0)
    _, _, axes = torch.linalg.svd(centred, full_matrices=False)
    axes = axes[:3]
    sign = axes.gather(1, axes.abs().argmax(dim=1, keepdim=True)).sign()
    scores = F.pad(centred @ (axes * sign).T, (0, 3 - len(axes)))
    low, high = scores.quantile(0.01, dim=0), scores.quantile(0.99, dim=0)
    shades = ((scores - low) / (high - low).clamp_min(1e-12)).clamp(0, 1)
    side = round(N**0.5)
    return (255 * shades).round().to(torch.uint8).view(B, side, side, 3).numpy()


def data_uri(picture: NDArray[np.uint8]) -> str:
    """A PNG as a data URI, pixel by pixel."""
    file = io.BytesIO()
    Image.fromarray(picture).save(file, "PNG", optimize=True)
    return "data:image/png;base64," + base64.b64encode(file.getvalue()).decode()
