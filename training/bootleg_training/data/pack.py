"""A data set packed once: upright, resized uint8 images in one memory-mapped array.

``bootleg prepare`` writes a pack from any nested folder; training and probes read packs only, so
that no step waits for a decoder. Unreadable files are left out, counted and listed with the reason.

    PACK/images.npy    uint8 [images, side, side, 3]
    PACK/pack.json     files, labels, fingerprint, what was left out
"""

from __future__ import annotations

import hashlib
import os
import shutil
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
from pydantic import BaseModel, ConfigDict

from bootleg_bundle.errors import DataError, ImageError
from bootleg_bundle.images import ImageLimits, decode
from bootleg_bundle.preprocess import PreprocessSpec, apply

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from pathlib import Path

    from numpy.typing import NDArray

    Progress = Callable[[Iterable[Path], int], Iterable[Path]]

INDEX_NAME = "pack.json"
IMAGES_NAME = "images.npy"
SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".webp"})
# A user's own files are trusted more than a stranger's request: allow what a camera or scanner makes.
LIMITS = ImageLimits(max_bytes=256 * 2**20, max_side=65_535, max_pixels=150_000_000)


@dataclass(frozen=True)
class Pack:
    """An opened pack.

    Attributes:
        images: uint8 ``[images, side, side, 3]``, memory-mapped.
        labels: int64 ``[images]``, or None when the folder had no class directories.
        classes: class names; labels index into it.
        fingerprint: SHA-256 over every file's relative name and content.
        name: what the data set is called in reports.
        preprocess: how the files became these pixels.
    """

    images: NDArray[np.uint8]
    labels: NDArray[np.int64] | None
    classes: tuple[str, ...]
    fingerprint: str
    name: str
    preprocess: PreprocessSpec

    @property
    def side(self) -> int:
        """Image side in pixels."""
        return int(self.images.shape[1])


class PackIndex(BaseModel):
    """``pack.json``."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    fingerprint: str
    preprocess: PreprocessSpec
    classes: tuple[str, ...]
    labels: list[int] | None
    files: list[str]
    skipped: dict[str, str]


def open_pack(path: Path) -> Pack:
    """Open a pack for reading.

    Raises:
        DataError: ``path`` is no pack, or a damaged one.
    """
    index = path / INDEX_NAME
    if not index.is_file():
        raise DataError(f"{path} is no pack: make one with `bootleg prepare FOLDER --out {path} --size SIDE`")
    try:
        fields = PackIndex.model_validate_json(index.read_bytes())
        images = np.load(path / IMAGES_NAME, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError) as error:  # pydantic's errors are ValueErrors
        raise DataError(f"the pack {path} is damaged: make it again") from error
    if len(images) != len(fields.files):
        raise DataError(f"the pack {path} is damaged: {len(images)} images for {len(fields.files)} files")
    labels = None if fields.labels is None else np.asarray(fields.labels, np.int64)
    return Pack(images, labels, fields.classes, fields.fingerprint, fields.name, fields.preprocess)


def find_images(folder: Path) -> list[Path]:
    """Every image file below ``folder``, in a stable order.

    Raises:
        DataError: no folder, or none in it.
    """
    if not folder.is_dir():
        raise DataError(f"{folder} is no folder")
    paths = sorted(p for p in folder.rglob("*") if p.suffix.lower() in SUFFIXES and p.is_file())
    if not paths:
        raise DataError(f"{folder} holds no images; looked for {', '.join(sorted(SUFFIXES))} at any depth")
    return paths


def write_pack(
    folder: Path,
    out: Path,
    side: int,
    *,
    name: str | None = None,
    progress: Progress,
) -> tuple[Pack, dict[str, str]]:
    """Decode, resize and pack every image below ``folder``.

    Images lying in one directory a class are labelled with its name.

    Args:
        folder: any nesting.
        out: the pack to create; must not exist.
        side: pixels; the centre square is resized to it.
        name: for reports; the folder's name when None.
        progress: wraps the iteration (items, total).

    Returns:
        The pack, and the files left out with the reason for each.

    Raises:
        DataError: no readable images, or ``out`` exists.
    """
    if out.exists():
        raise DataError(f"{out} exists already: remove it or choose another --out")
    paths = find_images(folder)
    unfinished = out.with_name(out.name + ".partial")
    shutil.rmtree(unfinished, ignore_errors=True)
    unfinished.mkdir(parents=True)
    try:
        index = _fill(unfinished, folder, paths, PreprocessSpec(height=side, width=side), name or folder.name, progress)
        (unfinished / INDEX_NAME).write_text(index.model_dump_json(), encoding="utf-8")
        unfinished.rename(out)
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)
    return open_pack(out), index.skipped


def _fill(
    target: Path, folder: Path, paths: list[Path], spec: PreprocessSpec, name: str, progress: Progress
) -> PackIndex:
    array = np.lib.format.open_memmap(target / IMAGES_NAME, "w+", np.uint8, (len(paths), spec.height, spec.width, 3))
    digest = hashlib.sha256()
    kept: list[Path] = []
    skipped: dict[str, str] = {}
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        loaded = pool.map(partial(_load, spec=spec), paths)
        for path, (image, content) in zip(progress(paths, len(paths)), loaded, strict=True):
            relative = path.relative_to(folder).as_posix()
            if isinstance(image, str):
                skipped[relative] = image
                continue
            array[len(kept)] = image
            digest.update(relative.encode() + b"\0" + content)
            kept.append(path)
    if not kept:
        first = next(iter(skipped.items()))
        raise DataError(f"none of the {len(paths)} images below {folder} can be decoded; {first[0]}: {first[1]}")
    array.flush()
    del array
    _truncate_rows(target / IMAGES_NAME, len(kept))
    labels, classes = _labels(kept, folder)
    return PackIndex(
        name=name,
        fingerprint=digest.hexdigest(),
        preprocess=spec,
        classes=tuple(classes),
        labels=labels,
        files=[p.relative_to(folder).as_posix() for p in kept],
        skipped=skipped,
    )


def _load(path: Path, spec: PreprocessSpec) -> tuple[NDArray[np.uint8] | str, bytes]:
    """The image and its content's hash, or the reason why there is none."""
    try:
        data = path.read_bytes()
        return apply(spec, decode(data, LIMITS)), hashlib.sha256(data).digest()
    except ImageError as error:
        return error.message, b""
    except OSError as error:
        return f"the file cannot be read: {error.strerror}", b""


def _labels(paths: list[Path], folder: Path) -> tuple[list[int] | None, list[str]]:
    if any(p.parent == folder for p in paths):
        return None, []
    names = [p.parent.name for p in paths]
    classes = sorted(set(names))
    if len(classes) < 2:
        return None, []
    index = {name: i for i, name in enumerate(classes)}
    return [index[name] for name in names], classes


def _truncate_rows(path: Path, rows: int) -> None:
    """Cut an ``.npy`` file to its first rows, in place."""
    array = np.load(path, mmap_mode="r", allow_pickle=False)
    if rows == len(array):
        return
    shape = (rows, *array.shape[1:])
    target = path.with_suffix(".cut.npy")
    out = np.lib.format.open_memmap(target, "w+", array.dtype, shape)
    for start in range(0, rows, 4096):
        out[start : start + 4096] = array[start : min(start + 4096, rows)]
    out.flush()
    target.replace(path)
