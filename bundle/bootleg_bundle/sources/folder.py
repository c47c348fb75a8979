"""Images in a folder, nested to any depth; the nearest directory of each is its class."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from bootleg_bundle.sources.base import SUFFIXES, Source, check_size

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path


class FolderSource(Source):
    """The image files below a folder, in the order of their paths.

    A file directly in the folder has no class.
    """

    def __init__(self, folder: Path, files: Sequence[str]) -> None:
        self.name = folder.resolve().name
        self._folder, self._files = folder, files

    def __len__(self) -> int:
        return len(self._files)

    def file(self, number: int) -> str:
        r"""Path below the folder; bytes in it that are no UTF-8 are written as ``\xNN``."""
        return self._files[number].encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")

    def label(self, number: int) -> str | None:
        """The nearest directory's name."""
        directory, separator, _ = self.file(number).rpartition("/")
        return directory.rpartition("/")[2] if separator else None

    def size(self, number: int) -> int:
        """Encoded size in bytes."""
        return (self._folder / self._files[number]).stat().st_size

    def read(self, number: int) -> bytes:
        """The file's content."""
        check_size(self.size(number))
        return (self._folder / self._files[number]).read_bytes()


def find_images(folder: Path) -> list[str]:
    """Every image file below ``folder`` by its suffix, in a stable order: directory by directory, by name."""
    return sorted(_walk(folder), key=lambda name: name.split("/"))


def _walk(folder: Path) -> Iterator[str]:
    prefixes = [""]
    while prefixes:
        prefix = prefixes.pop()
        with os.scandir(folder / prefix) as entries:
            for entry in entries:
                if entry.is_dir(follow_symlinks=False):  # a link may lead to a parent
                    prefixes.append(f"{prefix}{entry.name}/")
                elif entry.name.lower().endswith(SUFFIXES) and _is_file(entry):
                    yield prefix + entry.name


def _is_file(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_file()
    except OSError:  # a link in a circle
        return False
