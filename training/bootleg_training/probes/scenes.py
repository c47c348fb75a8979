"""A segmentation set on disk: ``images/NAME.*`` and ``masks/NAME.png``, resized to squares of one side.

    FOLDER/images/     JPEG, PNG or WebP
    FOLDER/masks/      8-bit label maps, one for each image, of the same size
    classes.txt        optional, in FOLDER or beside it: a name a line, line k for label k

Probes of segmentation read it. Image and mask are squeezed to the square, as in CAPI's protocol, not cropped.
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

from bootleg_bundle.errors import DataError, ImageError
from bootleg_bundle.images import ImageLimits, decode
from bootleg_training.progress import track

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".webp"})
LIMITS = ImageLimits(max_bytes=256 * 2**20, max_side=65_535, max_pixels=150_000_000)
CLASSES_NAME = "classes.txt"


@dataclass(frozen=True)
class Scenes:
    """A segmentation set in memory.

    Attributes:
        images: uint8 ``[n, side, side, 3]``.
        masks: uint8 ``[n, side, side]``.
        classes: C; labels are 0 .. C - 1, the ignored one apart.
        ignore: label of the pixels that do not count.
        fingerprint: SHA-256 over images and masks.
    """

    images: NDArray[np.uint8]
    masks: NDArray[np.uint8]
    classes: int
    ignore: int | None
    fingerprint: str


def read_scenes(folder: Path, side: int, *, ignore: int | None = 255, classes: int | None = None) -> Scenes:
    """Read and resize every image and its mask: images bicubic, masks to the nearest pixel.

    Args:
        folder: see the module's docstring.
        side: of the squares, in pixels.
        ignore: label of the pixels that do not count.
        classes: C; when None, the lines of ``classes.txt``, or else the largest label that occurs, plus 1.

    Raises:
        DataError: a folder is missing or empty, an image or mask is unreadable, alone, or of another size than its
            partner, or a label is out of range.
    """
    pairs = paired_files(folder)
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        loaded = pool.map(partial(_load, side=side), pairs)
        read = list(track(loaded, len(pairs), f"read {folder.name}"))
    digest = hashlib.sha256(b"".join(content for _, _, content in read))
    masks = np.stack([mask for _, mask, _ in read])
    count = classes or _named_classes(folder) or largest_label(masks, ignore) + 1
    check_labels(pairs, masks, count, ignore)
    return Scenes(np.stack([image for image, _, _ in read]), masks, count, ignore, digest.hexdigest())


def paired_files(folder: Path) -> list[tuple[Path, Path]]:
    """Every image and its mask, by name.

    Raises:
        DataError: a folder is missing or empty, two images share a name, or one of a pair is alone.
    """
    for part in ("images", "masks"):
        if not (folder / part).is_dir():
            raise DataError(f"{folder} is no segmentation set: it has no folder {part}/")
    images = sorted(p for p in (folder / "images").iterdir() if p.suffix.lower() in SUFFIXES)
    masks = {p.stem for p in (folder / "masks").iterdir() if p.suffix.lower() == ".png"}
    stems = [p.stem for p in images]
    if not images:
        raise DataError(f"{folder / 'images'} holds no images; looked for {', '.join(sorted(SUFFIXES))}")
    if twice := {stem for stem in stems if stems.count(stem) > 1}:
        raise DataError(f"{folder / 'images'} holds two images named {min(twice)}")
    if alone := set(stems) ^ masks:
        have, lack = ("mask", "image") if min(alone) in masks else ("image", "mask")
        raise DataError(f"{folder}: the {have} {min(alone)} has no {lack}; {len(alone)} such files")
    return [(path, folder / "masks" / f"{path.stem}.png") for path in images]


def read_pair(pair: tuple[Path, Path]) -> tuple[NDArray[np.uint8], Image.Image, bytes]:
    """Read an image ``[h, w, 3]``, its mask in mode L, and a hash of both.

    Raises:
        DataError: one of them is unreadable, or they differ in size.
    """
    image_path, mask_path = pair
    content = image_path.read_bytes()
    try:
        rgb = decode(content, LIMITS)
    except ImageError as error:
        raise DataError(f"{image_path}: {error.message}") from error
    mask = _read_mask(mask_path)
    if mask.size != (rgb.shape[1], rgb.shape[0]):
        raise DataError(
            f"{mask_path} is {mask.size[0]} x {mask.size[1]} pixels, its image {rgb.shape[1]} x {rgb.shape[0]}"
        )
    return rgb, mask, hashlib.sha256(content + mask.tobytes()).digest()


def _load(pair: tuple[Path, Path], side: int) -> tuple[NDArray[np.uint8], NDArray[np.uint8], bytes]:
    rgb, mask, identity = read_pair(pair)
    squeezed = np.asarray(Image.fromarray(rgb).resize((side, side), Image.Resampling.BICUBIC))
    labels = np.asarray(mask.resize((side, side), Image.Resampling.NEAREST))
    return squeezed, labels, identity


def _read_mask(path: Path) -> Image.Image:
    """A label map, as an 8-bit image; a palette's indices are the labels."""
    try:
        with Image.open(path, formats=["PNG"]) as image:
            _check_header(path, image)
            image.load()
            return Image.fromarray(np.asarray(image, np.uint8))
    except DataError:
        raise
    except Exception as error:  # a damaged PNG raises anything; see bootleg_bundle.images
        raise DataError(f"{path} is truncated or no PNG image") from error


def _check_header(path: Path, mask: Image.Image) -> None:
    if (pixels := mask.width * mask.height) > LIMITS.max_pixels:
        raise DataError(f"{path} has {pixels:,} pixels; the limit is {LIMITS.max_pixels:,}")
    if mask.mode not in {"L", "P"}:
        raise DataError(f"{path} has colour mode {mask.mode}; a mask holds one 8-bit label a pixel, mode L or P")


def classes_file(folder: Path) -> Path | None:
    """``classes.txt`` in the folder or beside it; None where there is none."""
    return next((file for file in (folder / CLASSES_NAME, folder.parent / CLASSES_NAME) if file.is_file()), None)


def _named_classes(folder: Path) -> int:
    """How many names ``classes.txt`` holds; 0 where there is none."""
    file = classes_file(folder)
    return len(file.read_text(encoding="utf-8").strip().splitlines()) if file else 0


def largest_label(masks: NDArray[np.uint8], ignore: int | None) -> int:
    """The largest label that is not the ignored one; 0 where there is none."""
    counted = masks if ignore is None else masks[masks != ignore]
    return int(counted.max(initial=0))


def check_labels(
    pairs: Sequence[tuple[Path, Path]], masks: Iterable[NDArray[np.uint8]], classes: int, ignore: int | None
) -> None:
    """Refuse labels that are no class.

    Raises:
        DataError: naming the mask, the label and the classes.
    """
    for (_, path), mask in zip(pairs, masks, strict=True):
        if (largest := largest_label(mask, ignore)) >= classes:
            raise DataError(f"{path} holds label {largest}; there are {classes} classes, 0 to {classes - 1}")
