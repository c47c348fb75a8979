"""What a source of images is: encoded files by number, each with a name and perhaps a label.

Preparation and decoding read sources; nothing here decodes. A source holds names and places, never pixels, and
is read from many threads at once.
"""

from __future__ import annotations

import hashlib
from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from bootleg_bundle.errors import ImageError, ImageLimitError
from bootleg_bundle.images import ImageLimits

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from numpy.typing import NDArray

SUFFIXES = (".jpg", ".jpeg", ".png", ".webp")
# A user's own files are trusted more than a stranger's request: allow what a camera or scanner makes.
LIMITS = ImageLimits(max_bytes=256 * 2**20, max_side=65_535, max_pixels=150_000_000)


class Sample(NamedTuple):
    """One encoded image: its name in the source, its bytes, its class if it has one."""

    file: str
    data: bytes
    label: str | None


class Source(ABC):
    """Encoded images by number, in an order that is always the same.

    Attributes:
        name: what the data set is called in reports.
        classes: the order of the classes where the source defines one; else they are sorted.
    """

    name: str
    classes: tuple[str, ...] | None = None

    @abstractmethod
    def __len__(self) -> int: ...

    @abstractmethod
    def file(self, number: int) -> str:
        """The image's name, unique in this source; relative to wherever the source lies."""

    @abstractmethod
    def label(self, number: int) -> str | None:
        """The image's class."""

    @abstractmethod
    def size(self, number: int) -> int:
        """Encoded size in bytes.

        Raises:
            ImageError: there is nothing.
            OSError: there is no such file.
        """

    @abstractmethod
    def read(self, number: int) -> bytes:
        """The encoded image.

        Raises:
            ImageError: there is nothing, or more than ``LIMITS.max_bytes``; nothing was read.
            OSError: it cannot be read.
        """

    def __getitem__(self, number: int) -> Sample:
        if not 0 <= number < len(self):
            raise IndexError(f"image {number} of {len(self)}")
        return Sample(self.file(number), self.read(number), self.label(number))


def check_size(size: int) -> None:
    """Refuse to read more than the limit into memory.

    Raises:
        ImageLimitError: ``size`` is over ``LIMITS.max_bytes``.
    """
    if size > LIMITS.max_bytes:
        raise ImageLimitError(f"the image has {size:,} bytes; the limit is {LIMITS.max_bytes:,} bytes")


def natural_order(labels: Iterable[str]) -> tuple[str, ...]:
    """Classes in the order people expect: numbers by value, anything else by name."""
    present = set(labels)
    numeric = all(label.isdecimal() for label in present)
    return tuple(sorted(present, key=lambda label: (int(label) if numeric else 0, label)))


def numbered_labels(source: Source, chosen: Sequence[int]) -> tuple[NDArray[np.int64] | None, tuple[str, ...]]:
    """Labels of the chosen images as indices into the classes.

    Returns:
        int64 labels ``[chosen]`` and the classes; None and no classes when an image has no label, or all the same.
    """
    labels = [source.label(number) for number in chosen]
    known = [label for label in labels if label is not None]
    classes = source.classes or tuple(sorted(set(known)))
    if len(known) < len(labels) or len(classes) < 2:
        return None, ()
    index = {name: place for place, name in enumerate(classes)}
    return np.array([index[label] for label in known], np.int64), classes


def listing_fingerprint(source: Source) -> str:
    """SHA-256 over every image's name and size: cheap, and blind to a change that keeps both."""
    digest = hashlib.sha256()
    for number in range(len(source)):
        try:
            size = source.size(number)
        except (OSError, ImageError):  # counted when the image is wanted
            size = -1
        digest.update(f"{source.file(number)}\0{size}\n".encode())
    return digest.hexdigest()
