"""Which patches the student sees and which rectangles it must predict.

Pure functions of a numpy generator: the loop seeds one per step, so that masks differ per image and
per step, and a resumed run repeats them.

Shapes: B images, M rectangles, T patches of a rectangle, V visible patches, N patches, g grid side.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from bootleg_bundle.errors import ConfigError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from bootleg_training.config import MaskConfig

MAX_REDRAWS = 50


@dataclass(frozen=True)
class Masks:
    """Patch indices for one batch.

    Attributes:
        visible: int64 ``[B, V]``, rising.
        rectangles: int64 ``[B, M, T]``, raster order inside each rectangle.
    """

    visible: NDArray[np.int64]
    rectangles: NDArray[np.int64]


def sample_masks(config: MaskConfig, grid: int, batch: int, rng: np.random.Generator) -> Masks:
    """Draw masks for one batch with the configured sampler."""
    if config.sampler == "ijepa":
        return sample_ijepa(config, grid, batch, rng)
    return sample_uniform(config, grid, batch, rng)


def sample_uniform(config: MaskConfig, grid: int, batch: int, rng: np.random.Generator) -> Masks:
    """I-JEPA's statistics without its bias: every legal corner, and visible patches from no preferred side.

    One rectangle size for the batch, from independent scale and log-uniform aspect; M corners an
    image; the patches outside the union are cut to exactly ``round(visible * N)``, along one of four
    scan orders chosen per image, or uniformly at random, or (``none``) only to the batch's fewest.

    Raises:
        ConfigError: the settings leave too few free patches even after ``MAX_REDRAWS`` draws.
    """
    patches = grid**2
    visible = round(config.visible * patches)
    area = np.floor(patches * rng.uniform(*config.scale))
    aspect = np.exp(rng.uniform(*np.log(config.aspect)))
    height = int(np.clip(round(np.sqrt(area * aspect)), 1, grid - 1))
    width = int(np.clip(round(np.sqrt(area / aspect)), 1, grid - 1))

    rectangles = np.empty((batch, config.rectangles, height * width), np.int64)
    hidden = np.zeros((batch, patches), bool)
    todo = np.arange(batch)
    for _ in range(MAX_REDRAWS):
        rectangles[todo] = _place(grid, height, width, (len(todo), config.rectangles), rng)
        hidden[todo] = False
        hidden[todo[:, None], rectangles[todo].reshape(len(todo), -1)] = True
        todo = todo[(~hidden[todo]).sum(axis=1) < visible]
        if not len(todo):
            break
    else:
        raise ConfigError(
            f"mask: {config.rectangles} rectangles of {height} x {width} leave "
            f"fewer than {visible} of {patches} patches free"
        )

    if config.thinning == "none":
        visible = int((~hidden).sum(axis=1).min())
    if config.thinning != "scan":
        rank = rng.permuted(np.tile(np.arange(patches), (batch, 1)), axis=1)
    else:
        rank = _scan_orders(grid)[rng.integers(4, size=batch)]
    order = np.argsort(rank + patches * hidden, axis=1, kind="stable")
    return Masks(np.sort(order[:, :visible], axis=1), rectangles)


def sample_ijepa(config: MaskConfig, grid: int, batch: int, rng: np.random.Generator) -> Masks:
    """The sampler of I-JEPA's published runs, quirks included, for faithful baselines.

    Scale and aspect share one random number, the last row and column are never a target, and the
    visible lists are cut to the batch's shortest from the top of the image down.
    """
    height, width = _ijepa_size(grid, config.scale, config.aspect, rng.random())
    context_side, _ = _ijepa_size(grid, (0.85, 1.0), (1.0, 1.0), rng.random())
    rectangles = np.empty((batch, config.rectangles, height * width), np.int64)
    contexts: list[NDArray[np.int64]] = []
    for i in range(batch):
        rectangles[i] = _place(grid, height, width, (config.rectangles,), rng, legal_last=False)
        contexts.append(_ijepa_context(grid, context_side, rectangles[i], rng))
    shortest = min(len(context) for context in contexts)
    return Masks(np.stack([context[:shortest] for context in contexts]), rectangles)


def _ijepa_size(grid: int, scale: tuple[float, float], aspect: tuple[float, float], u: float) -> tuple[int, int]:
    area = int(grid**2 * (scale[0] + u * (scale[1] - scale[0])))
    ratio = aspect[0] + u * (aspect[1] - aspect[0])
    return min(round(np.sqrt(area * ratio)), grid - 1), min(round(np.sqrt(area / ratio)), grid - 1)


def _ijepa_context(grid: int, side: int, targets: NDArray[np.int64], rng: np.random.Generator) -> NDArray[np.int64]:
    keep = len(targets)
    while True:  # after 20 failures one target less constrains the context: ends at the latest with none
        for _ in range(20):
            context = _place(grid, side, side, (), rng, legal_last=False)
            context = np.setdiff1d(context, targets[:keep])
            if len(context) > 10:
                return context
        keep -= 1


def _place(
    grid: int, height: int, width: int, shape: tuple[int, ...], rng: np.random.Generator, *, legal_last: bool = True
) -> NDArray[np.int64]:
    """Indices ``[*shape, height * width]`` of rectangles at random corners."""
    top = rng.integers(grid - height + legal_last, size=shape)
    left = rng.integers(grid - width + legal_last, size=shape)
    offsets = (np.arange(height)[:, None] * grid + np.arange(width)).reshape(-1)
    corners: NDArray[np.int64] = np.asarray(top * grid + left)
    return corners[..., None] + offsets


def _scan_orders(grid: int) -> NDArray[np.int64]:
    """Rank of each patch ``[4, N]`` when read from the top, the bottom, the left and the right."""
    raster = np.arange(grid**2)
    columns = raster.reshape(grid, grid).T.reshape(-1)
    return np.stack([raster, raster[::-1], columns, columns[::-1]])
