"""Where images come from: folders, tar archives, lists, Hugging Face data sets, behind one function."""

from __future__ import annotations

import glob
import re
from pathlib import Path

from bootleg_bundle.errors import DataError
from bootleg_bundle.sources import hub
from bootleg_bundle.sources.base import SUFFIXES, Sample, Source
from bootleg_bundle.sources.embedded import ParquetSource, image_column
from bootleg_bundle.sources.folder import FolderSource, find_images
from bootleg_bundle.sources.listing import LIST_SUFFIXES, ListSource
from bootleg_bundle.sources.tar import TarSource

__all__ = ["Sample", "Source", "open_source"]

MAX_SHARDS = 100_000
_BRACES = re.compile(r"\{([^{}]*)\}")
_RANGE = re.compile(r"(\d+)\.\.(\d+)")


def open_source(spec: str | Path) -> Source:
    """Open images for reading.

    Args:
        spec: a folder of images (any nesting) or of ``.tar`` archives; one archive, a glob
            (``shards/*.tar``) or braces (``shards/{000..127}.tar``); a ``.csv``, ``.tsv``, ``.txt`` or ``.parquet``
            list; a ``.parquet`` file with a column of encoded images; a folder written by
            ``datasets.save_to_disk``; or ``hf:NAME:SPLIT``.

    Raises:
        DataError: it is none of these, holds no images, or cannot be read.
    """
    text = str(spec)
    if not text:
        raise DataError("the source of images is an empty name")
    if text.startswith(hub.PREFIX):
        return hub.open_named(text)
    path = Path(text)
    if path.is_dir():
        return _open_folder(path)
    if path.is_file():
        return _open_file(path)
    if archives := _matching(text):
        return TarSource(archives, Path(text).name)
    raise DataError(f"{text} is no folder, tar archive, list, or hf:NAME:SPLIT")


def _open_folder(path: Path) -> Source:
    if hub.is_saved(path):
        return hub.open_saved(path)
    if files := find_images(path):
        return FolderSource(path, files)
    if archives := sorted(path.glob("*.tar")):
        return TarSource(archives, path.resolve().name)
    raise DataError(
        f"{path} holds no images; looked for {', '.join(sorted(SUFFIXES))} at any depth, links to folders left out, "
        "and for .tar archives in it"
    )


def _open_file(path: Path) -> Source:
    suffix = path.suffix.lower()
    if suffix == ".tar":
        return TarSource([path], path.stem)
    if suffix == ".parquet" and (column := image_column(path)) is not None:
        return ParquetSource(path, column)
    if suffix in LIST_SUFFIXES:
        return ListSource(path)
    raise DataError(
        f"{path} is neither a .tar archive (a compressed one must be unpacked first) "
        f"nor a list ({', '.join(LIST_SUFFIXES)})"
    )


def _matching(pattern: str) -> list[Path]:
    """The archives that a pattern with ``{...}``, ``*``, ``?`` or ``[...]`` names.

    Raises:
        DataError: an archive that braces spell out does not exist, or a match is no ``.tar``.
    """
    archives: list[Path] = []
    for name in _expand(pattern):
        found = [Path(match) for match in sorted(glob.glob(name))]  # noqa: PTH207  # absolute patterns too
        if not found and name != pattern:
            raise DataError(f"{pattern}: there is no {name}")
        archives += found
    for path in archives:
        if path.suffix.lower() != ".tar" or not path.is_file():
            raise DataError(f"{pattern} names {path}, which is no .tar archive")
    return archives


def _expand(pattern: str) -> list[str]:
    """Braces as a shell expands them: ``{000..127}`` with leading zeros, ``{a,b}``.

    Raises:
        DataError: more than ``MAX_SHARDS`` names.
    """
    names = [""]
    rest = pattern
    while match := _BRACES.search(rest):
        choices = _choices(match[1])
        if len(names) * len(choices) > MAX_SHARDS:
            raise DataError(f"{pattern} names more than {MAX_SHARDS:,} archives")
        names = [name + rest[: match.start()] + choice for name in names for choice in choices]
        rest = rest[match.end() :]
    return [name + rest for name in names]


def _choices(inside: str) -> list[str]:
    if (ends := _RANGE.fullmatch(inside)) is None:
        return inside.split(",")
    first, last = ends.groups()
    if int(last) - int(first) >= MAX_SHARDS:
        raise DataError(f"{{{inside}}} names more than {MAX_SHARDS:,} archives")
    return [f"{number:0{len(first)}}" for number in range(int(first), int(last) + 1)]
