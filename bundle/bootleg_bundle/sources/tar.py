"""Images in tar archives, in WebDataset's layout: members that differ in their extensions are one sample.

    shard-000.tar:  0001.jpg  0001.cls  0002.jpg  0002.json  ...

The headers are read once into an index of places; after that every image is read by its place alone. Nothing is
ever extracted. WebDataset's epochs (inexact, no resume) are not taken over: the order is ours.
"""

from __future__ import annotations

import json
import os
import tarfile
from array import array
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from bootleg_bundle.errors import DataError
from bootleg_bundle.sources.base import SUFFIXES, Source, check_size, natural_order

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

MAX_LABEL_BYTES = 2**20
"""Of a ``.cls`` or ``.json`` member; captions and boxes may lie beside the label."""


class _Member(NamedTuple):
    extension: str
    offset: int
    size: int


class TarSource(Source):
    """Images of one or many tar archives; an image's name is ARCHIVE/MEMBER.

    Labels come from ``.cls`` (text), else from ``label`` in ``.json``.

    Raises:
        DataError: an archive is damaged, compressed, holds a link, or no images.
    """

    def __init__(self, archives: Sequence[Path], name: str) -> None:
        self.name = name
        self._archives = list(archives)
        base = Path(os.path.commonpath([path.parent for path in archives]))
        self._files: list[str] = []
        self._labels: list[str | None] = []
        self._archive, self._offset, self._size = array("L"), array("Q"), array("Q")
        for number, path in enumerate(self._archives):
            shown = path.relative_to(base).as_posix()
            for key, members in _samples(path).items():
                image = _image(path, key, members)
                if image is None:
                    continue
                self._files.append(f"{shown}/{key}.{image.extension}")
                self._labels.append(_label(path, key, members))
                self._archive.append(number)
                self._offset.append(image.offset)
                self._size.append(image.size)
        if not self._files:
            raise DataError(f"{name} holds no images; looked for {', '.join(sorted(SUFFIXES))} in its archives")
        self.classes = natural_order(label for label in self._labels if label is not None) or None

    def __len__(self) -> int:
        return len(self._files)

    def file(self, number: int) -> str:
        """Archive and member."""
        return self._files[number]

    def label(self, number: int) -> str | None:
        """What the sample's ``.cls`` or ``.json`` says."""
        return self._labels[number]

    def size(self, number: int) -> int:
        """Encoded size in bytes."""
        return self._size[number]

    def read(self, number: int) -> bytes:
        """The image's bytes, by its place: an open file of its own for each call, so threads share nothing."""
        check_size(self._size[number])
        return _read(self._archives[self._archive[number]], self._offset[number], self._size[number])


def _samples(path: Path) -> dict[str, list[_Member]]:
    """The members of an archive by key: the path up to the first dot of the last part."""
    samples: dict[str, list[_Member]] = {}
    for member in _members(path):
        directory, slash, last = member.name.rpartition("/")
        key, _, extension = last.partition(".")
        samples.setdefault(f"{directory}{slash}{key}", []).append(
            _Member(extension, member.offset_data, member.size),
        )
    return samples


def _members(path: Path) -> Iterator[tarfile.TarInfo]:
    """Regular members with content; everything else but directories is refused."""
    end, place = path.stat().st_size, -1
    try:
        with tarfile.open(path, "r:") as tar:
            while (member := tar.next()) is not None:
                tar.members.clear()  # type: ignore[attr-defined]  # else every header stays in memory
                if member.offset <= place or not 0 <= member.size <= end - member.offset_data:
                    raise DataError(f"{path} is damaged: {member.name!r} lies outside of it")
                place = member.offset
                if member.isdir():
                    continue
                if not member.isreg() or member.issparse():
                    raise DataError(f"{path}: {member.name!r} is a link or no plain file; links are refused")
                yield member
            # A damaged header ends tarfile's iteration like the end of the archive, which is a block of zeros.
            if _read(path, tar.offset, tarfile.BLOCKSIZE) != bytes(tarfile.BLOCKSIZE):
                raise DataError(f"{path} is damaged or cut short at byte {tar.offset:,}")
    except (tarfile.TarError, UnicodeError, EOFError) as error:
        raise DataError(f"{path} is damaged, compressed, or no tar archive; images are read from plain .tar") from error


def _image(path: Path, key: str, members: list[_Member]) -> _Member | None:
    """The sample's image: KEY.jpg and its like; failing that, its only one of any longer extension."""
    plain = [member for member in members if f".{member.extension.lower()}" in SUFFIXES]
    longer = [member for member in members if f".{member.extension.lower()}".endswith(SUFFIXES)]
    found = plain or longer
    if len(found) > 1:
        names = ", ".join(f"{key}.{member.extension}" for member in found[:4])
        raise DataError(
            f"{path}: one sample has {len(found)} images ({names}); names that differ behind the first dot only are one"
        )
    return found[0] if found else None


def _label(path: Path, key: str, members: list[_Member]) -> str | None:
    sidecars = {member.extension.lower(): member for member in members}
    for extension in ("cls", "json"):
        member = sidecars.get(extension)
        if member is None:
            continue
        if member.size > MAX_LABEL_BYTES:
            raise DataError(
                f"{path}: {key}.{extension} has {member.size:,} bytes; the limit is {MAX_LABEL_BYTES:,} bytes"
            )
        content = _read(path, member.offset, member.size)
        try:
            text = content.decode("utf-8").strip()
            label = text if extension == "cls" else _field(json.loads(text))
        except (ValueError, RecursionError) as error:
            raise DataError(f"{path}: {key}.{extension} is no UTF-8 text or no JSON") from error
        if label:
            return label
    return None


def _field(document: object) -> str | None:
    label = document.get("label") if isinstance(document, dict) else None
    return str(label) if isinstance(label, str | int) else None


def _read(path: Path, offset: int, size: int) -> bytes:
    with path.open("rb", buffering=0) as file:
        file.seek(offset)
        return file.read(size)
