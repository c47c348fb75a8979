"""Labelled pictures for a head: what it learns from, and what it is examined on.

It learns from whole pictures, to be cropped at random. It is examined on what the service would show it, the
centre square, and scored on that square's pixels at the mask's own resolution.
"""

from __future__ import annotations

import hashlib
import os
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from bootleg_bundle.preprocess import apply, centre_box
from bootleg_training.probes.scenes import check_labels, largest_label, paired_files, read_pair
from bootleg_training.progress import track

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from numpy.typing import NDArray

    from bootleg_bundle.preprocess import PreprocessSpec

    Bytes = NDArray[np.uint8]
    Change = Callable[[Bytes, Image.Image], tuple[Bytes, Bytes]]

ROOM = 2
"""Sides of a kept picture to the input's: a crop of a quarter of its area is not enlarged."""


@dataclass(frozen=True)
class Labelled:
    """Pictures and masks in memory.

    Attributes:
        images: uint8 ``[h, w, 3]`` each.
        masks: uint8 labels of the same part of the picture, at any resolution.
        classes: C; labels are 0 .. C - 1, the ignored one apart.
        fingerprint: SHA-256 over what was read.
    """

    images: list[Bytes]
    masks: list[Bytes]
    classes: int
    fingerprint: str


def read_pictures(folder: Path, size: int, *, ignore: int | None, classes: int | None) -> Labelled:
    """Read pictures to learn from; those of more than ``ROOM * size`` pixels on their shorter side are reduced to it.

    Args:
        folder: see :mod:`bootleg_training.probes.scenes`.
        size: the input's side in pixels.
        ignore: label of the pixels that do not count.
        classes: C; None for the largest label, plus 1.

    Raises:
        DataError: see :func:`bootleg_training.probes.scenes.read_scenes`.
    """
    return _read(folder, partial(_reduce, side=ROOM * size), ignore, classes)


def read_exam(folder: Path, spec: PreprocessSpec, *, ignore: int | None, classes: int) -> Labelled:
    """Read pictures as the service would show them: images ``[spec.height, spec.width, 3]``, their part of the masks.

    Raises:
        DataError: see :func:`bootleg_training.probes.scenes.read_scenes`.
    """
    return _read(folder, partial(_as_served, spec=spec), ignore, classes)


def _read(folder: Path, change: Change, ignore: int | None, classes: int | None) -> Labelled:
    pairs = paired_files(folder)
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        loaded = pool.map(partial(_load, change=change), pairs)
        read = list(track(loaded, len(pairs), f"read {folder.name}"))
    masks = [mask for _, mask, _ in read]
    count = classes or max(largest_label(mask, ignore) for mask in masks) + 1
    check_labels(pairs, masks, count, ignore)
    digest = hashlib.sha256(b"".join(identity for _, _, identity in read))
    return Labelled([image for image, _, _ in read], masks, count, digest.hexdigest())


def _load(pair: tuple[Path, Path], change: Change) -> tuple[Bytes, Bytes, bytes]:
    rgb, mask, identity = read_pair(pair)
    return *change(rgb, mask), identity


def _reduce(rgb: Bytes, mask: Image.Image, side: int) -> tuple[Bytes, Bytes]:
    shrink = max(1.0, min(rgb.shape[:2]) / side)
    size = round(rgb.shape[1] / shrink), round(rgb.shape[0] / shrink)
    small = Image.fromarray(rgb).resize(size, Image.Resampling.BICUBIC)
    return np.asarray(small), np.asarray(mask.resize(size, Image.Resampling.NEAREST))


def _as_served(rgb: Bytes, mask: Image.Image, spec: PreprocessSpec) -> tuple[Bytes, Bytes]:
    left, top, right, bottom = (round(edge) for edge in centre_box(spec, rgb.shape[0], rgb.shape[1]))
    return apply(spec, rgb), np.asarray(mask)[top:bottom, left:right]
