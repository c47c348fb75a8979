"""Segmentation sets made in code: a coloured block on a coloured ground, the label of a pixel is its colour."""

from __future__ import annotations

import numpy as np
from PIL import Image

from bootleg_training.probes.scenes import Scenes

COLOURS = np.array([[200, 40, 40], [40, 200, 40], [40, 40, 200]], np.uint8)


def masks(count, side, patch, seed=0):
    """Labels 0..2 in whole patches."""
    small = np.random.default_rng(seed).integers(0, 3, (count, side // patch, side // patch)).astype(np.uint8)
    return small.repeat(patch, axis=1).repeat(patch, axis=2)


def scenes(count=6, side=32, patch=8, seed=0, ignore=255):
    """In memory."""
    labels = masks(count, side, patch, seed)
    noise = np.random.default_rng(seed + 100).integers(0, 20, (*labels.shape, 3)).astype(np.uint8)
    return Scenes(COLOURS[labels] + noise, labels, 3, ignore, f"scenes-{count}-{seed}")


def write(folder, made, *, suffix=".png"):
    """On disk."""
    for part in ("images", "masks"):
        (folder / part).mkdir(parents=True)
    for index, (image, mask) in enumerate(zip(made.images, made.masks, strict=True)):
        Image.fromarray(image).save(folder / "images" / f"{index:03}{suffix}")
        Image.fromarray(mask).save(folder / "masks" / f"{index:03}.png")
    return folder


def colour_tokens(made, patch):
    """Features that tell the colour: the mean colour of each patch, ``[n, N, 3]``."""
    n, side = made.images.shape[:2]
    cut = made.images.reshape(n, side // patch, patch, side // patch, patch, 3)
    return cut.mean(axis=(2, 4)).reshape(n, -1, 3).astype(np.float16)
