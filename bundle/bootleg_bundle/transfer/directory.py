"""A bundle in another directory: pulled like any other, so that a copy is checked, resumed and named last."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

from bootleg_bundle.bundle import plain_file
from bootleg_bundle.transfer.source import AbsentError, Stream

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


class DirectorySource:
    """Reads plain files below ``path``; follows no link."""

    def __init__(self, path: Path) -> None:
        self.label = str(path)
        self._path = path

    @contextmanager
    def open(self, name: str, start: int) -> Iterator[Stream]:
        """Read a file from ``start`` on.

        Raises:
            AbsentError: there is no such file.
            BundleFileError: it is a link.
        """
        if not (self._path / name).exists():
            raise AbsentError(name)
        with plain_file(self._path, name).open("rb") as file:
            size = file.seek(0, 2)
            begin = start if start <= size else 0
            file.seek(begin)
            yield Stream(begin, size, file.read)
