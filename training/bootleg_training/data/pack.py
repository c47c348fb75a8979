"""A data set packed once: upright, resized uint8 images in memory-mapped shards.

``bootleg prepare`` writes a pack, training and probes read it, so that no step waits for a decoder.

    PACK/images-00000.npy ...   uint8 [images, side, side, 3]
    PACK/pack.json              files, labels, fingerprint, statistics, what was left out
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from bootleg_bundle.errors import DataError
from bootleg_bundle.preprocess import PreprocessSpec
from bootleg_training.data.shards import Shards

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

    from bootleg_training.data.images import Images

INDEX_NAME = "pack.json"
FORMAT_VERSION = 2
IMAGES_NAME_V1 = "images.npy"
"""Version 1 had one array, and nothing that came after ``skipped`` below."""


@dataclass(frozen=True)
class Pack:
    """An opened pack, or a source opened in its place.

    Attributes:
        images: uint8 ``[images, side, side, 3]``: a memory map, or decoded when wanted.
        labels: int64 ``[images]``, or None when the source has no classes.
        classes: class names; labels index into it.
        fingerprint: SHA-256 over every image's name and content.
        name: what the data set is called in reports.
        preprocess: how the files became these pixels.
    """

    images: Images
    labels: NDArray[np.int64] | None
    classes: tuple[str, ...]
    fingerprint: str
    name: str
    preprocess: PreprocessSpec

    @property
    def side(self) -> int:
        """Image side in pixels."""
        return int(self.images.shape[1])


class _Version(BaseModel):
    """The part of ``pack.json`` that every version has, read before the rest is judged."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    format_version: int = Field(1, ge=1)


class PackIndex(BaseModel):
    """``pack.json``.

    Attributes:
        format_version: files without it are of version 1.
        name: what the data set is called in reports.
        fingerprint: SHA-256 over every packed image's name and content.
        preprocess: how the files became the pixels.
        classes: class names.
        labels: of the packed images.
        files: names of the packed images, in their order.
        skipped: corrupt images left out, with the reason for each.
        rows_per_shard: images in every shard but the last.
        duplicates: byte-identical images, by name, the first of each group first.
        duplicates_dropped: whether all but the first were left out.
        mean: of pixels / 255 over the packed images, per channel.
        std: of pixels / 255 over the packed images, per channel.
        presets: what to train with ``cuda`` and without (``cpu``); None where no preset fits.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    format_version: int = Field(1, ge=1)
    name: str
    fingerprint: str
    preprocess: PreprocessSpec
    classes: tuple[str, ...]
    labels: list[int] | None
    files: list[str]
    skipped: dict[str, str]
    rows_per_shard: int | None = Field(None, gt=0)
    duplicates: list[list[str]] = []
    duplicates_dropped: bool = False
    mean: tuple[float, float, float] | None = None
    std: tuple[float, float, float] | None = None
    presets: dict[str, str | None] = {}


def open_pack(path: Path) -> Pack:
    """Open a pack for reading; its pixels stay on disk.

    Raises:
        DataError: ``path`` is no pack, a damaged one, or one of a later format.
    """
    index = read_index(path)
    side, count = index.preprocess.height, len(index.files)
    try:
        if index.rows_per_shard is None:
            images: Images = np.load(path / IMAGES_NAME_V1, mmap_mode="r", allow_pickle=False)
        else:
            images = Shards(path, count, side, index.rows_per_shard)
    except (OSError, ValueError) as error:
        raise DataError(f"the pack {path} is damaged: make it again") from error
    if len(images) != count:
        raise DataError(f"the pack {path} is damaged: {len(images)} images for {count} files")
    labels = None if index.labels is None else np.asarray(index.labels, np.int64)
    return Pack(images, labels, index.classes, index.fingerprint, index.name, index.preprocess)


def read_index(path: Path) -> PackIndex:
    """Read ``pack.json``.

    Raises:
        DataError: ``path`` is no pack, a damaged one, or one of a later format.
    """
    file = path / INDEX_NAME
    if not file.is_file():
        raise DataError(f"{path} is no pack: make one with `bootleg prepare SOURCE --out {path} --size SIDE`")
    content = file.read_bytes()
    try:
        version = _Version.model_validate_json(content).format_version
        if version > FORMAT_VERSION:
            raise DataError(f"the pack {path} has format version {version}; this release reads up to {FORMAT_VERSION}")
        return PackIndex.model_validate_json(content)
    except ValidationError as error:
        raise DataError(f"the pack {path} is damaged: make it again") from error
