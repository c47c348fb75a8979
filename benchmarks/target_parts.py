"""What the targets are made of: how much of each layer's target a constant, the place and the patch's own pixels tell.

    python -m benchmarks.target_parts CHECKPOINT [CHECKPOINT ...] --data PACK [--images 4096]

Writes ``results/target_parts.json``: for each encoder and its untrained twin, and for each target layer, shares of the
normalised target's second moment. ``constant``: its mean over all tokens of all images. ``position``: what the mean of
each place adds. ``pixels``: what a ridge regression on the patch's own pixels adds, fitted on half of the images and
counted on the other half. ``rest``: what needs more than that, the part that a method learns from.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from benchmarks.result import write_result
from bootleg_training.data.pack import open_pack
from bootleg_training.method import method_of
from bootleg_training.objective import select_targets
from bootleg_training.probes.encoders import TWIN, load_compared
from bootleg_training.probes.features import network_input

if TYPE_CHECKING:
    from torch import Tensor

    from bootleg_training.config import TargetConfig
    from bootleg_training.data.pack import Pack
    from bootleg_training.vit import Encoder

CHUNK = 256
RIDGE = 1e-3
"""Of the mean square of a pixel channel."""


@dataclass(frozen=True)
class Parts:
    """Shares of a target's second moment; they add up to 1."""

    constant: float
    position: float
    pixels: float

    @property
    def rest(self) -> float:
        """What none of them tells."""
        return 1 - self.constant - self.position - self.pixels


def main() -> None:
    """Measure and write."""
    parser = argparse.ArgumentParser()
    parser.add_argument("checkpoints", type=Path, nargs="+")
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--images", type=int, default=4096)
    asked = parser.parse_args()
    pack = open_pack(asked.data)
    rows: list[dict[str, Any]] = []
    for path in asked.checkpoints:
        encoders, config = load_compared(path, ("teacher",))
        layers = tuple(range(1, config.encoder.depth + 1))
        target = config.run.resolved().target.model_copy(update={"layers": layers, "source": "layers"})
        for name, encoder in encoders.items():
            method = "untrained" if name == TWIN else method_of(config.run)
            about = {"method": method, "normalise": target.normalise, "seed": config.run.seed}
            if any(about.items() <= row.items() for row in rows):
                continue  # the same twin
            pixels, targets = look(encoder, pack, target, asked.images)
            for layer, y_nND in zip(layers, targets, strict=True):
                found = parts(y_nND, pixels)
                shares = {key: round(getattr(found, key), 4) for key in ("constant", "position", "pixels", "rest")}
                rows.append({**about, "layer": layer, **shares})
    print(write_result("target_parts", rows))


@torch.no_grad()
def look(encoder: Encoder, pack: Pack, target: TargetConfig, count: int) -> tuple[Tensor, list[Tensor]]:
    """Pixels ``[n, N, 3 p p]`` of the patches, and the targets ``[n, N, D]`` of each layer."""
    chosen = np.sort(np.random.default_rng(0).permutation(len(pack.images))[:count])
    everywhere = torch.arange(encoder.config.patches)[None, None]
    pixels, targets = [], []
    assert target.layers is not None
    for start in range(0, len(chosen), CHUNK):
        x_BHWC = network_input(pack.preprocess, pack.images[chosen[start : start + CHUNK]], torch.device("cpu"))
        taps = encoder(x_BHWC, taps=target.layers, norm=False).taps
        y_BNQD = select_targets(taps, everywhere.expand(len(x_BHWC), -1, -1), target)[:, 0]
        pixels.append(encoder.patchify(x_BHWC))
        targets.append(y_BNQD)
    joined = torch.cat(targets)
    return torch.cat(pixels), list(joined.unbind(2))


def parts(y_nND: Tensor, pixels_nNP: Tensor) -> Parts:
    """Cut a target's second moment into shares.

    Means and regression are fitted on the even images and counted on the odd ones, so that no share is chance.
    """
    fit_nND, y = y_nND[::2].double(), y_nND[1::2].double()
    fit_nNP, x = pixels_nNP[::2].double(), pixels_nNP[1::2].double()
    whole = y.square().mean()
    constant = fit_nND.mean(dim=(0, 1))
    place_ND = fit_nND.mean(dim=0)
    centred, mean_P = fit_nNP - fit_nNP.mean(dim=(0, 1)), fit_nNP.mean(dim=(0, 1))
    flat = centred.flatten(0, 1)
    gram = flat.T @ flat
    gram += RIDGE * gram.diagonal().mean() * torch.eye(len(gram), dtype=gram.dtype)
    weights_PD = torch.linalg.solve(gram, flat.T @ (fit_nND - place_ND).flatten(0, 1))
    errors = [
        whole,
        *((y - guess).square().mean() for guess in (constant, place_ND, place_ND + (x - mean_P) @ weights_PD)),
    ]
    shares = [float((before - after) / whole) for before, after in pairwise(errors)]
    return Parts(*shares)


if __name__ == "__main__":
    main()
