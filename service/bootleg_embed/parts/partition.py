"""Which images are in which part: a pure function of the source's listing and the images of a part."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from bootleg_bundle.errors import ConfigError
from bootleg_bundle.sources.base import Source, listing_fingerprint

if TYPE_CHECKING:
    from collections.abc import Sequence

MAX_PARTS = 1_000_000
"""What six digits name; a file system and a driver have enough of fewer."""


@dataclass(frozen=True)
class Partition:
    """``images`` in their order, cut every ``per_part``; only the last part may be smaller.

    Raises:
        ConfigError: more than ``MAX_PARTS`` parts.
    """

    images: int
    per_part: int

    def __post_init__(self) -> None:
        if len(self) > MAX_PARTS:
            raise ConfigError(
                f"--part-images {self.per_part:,} makes {len(self):,} parts of {self.images:,} images; "
                f"the limit is {MAX_PARTS:,} parts"
            )

    def __len__(self) -> int:
        return (self.images + self.per_part - 1) // self.per_part

    def numbers(self, part: int) -> range:
        """The images of a part, by their numbers in the source."""
        return range(part * self.per_part, min((part + 1) * self.per_part, self.images))

    def name(self, part: int) -> str:
        """The part's file."""
        return f"part-{part:06}.parquet"


class Excerpt(Source):
    """Neighbouring images of a source, as a source; names, sizes and bytes are the whole one's."""

    def __init__(self, whole: Source, numbers: range) -> None:
        self.name, self._whole, self._numbers = whole.name, whole, numbers

    def __len__(self) -> int:
        return len(self._numbers)

    def file(self, number: int) -> str:
        """The image's name in the whole source."""
        return self._whole.file(self._numbers[number])

    def label(self, number: int) -> str | None:
        """The image's class."""
        return self._whole.label(self._numbers[number])

    def size(self, number: int) -> int:
        """Encoded size in bytes."""
        return self._whole.size(self._numbers[number])

    def read(self, number: int) -> bytes:
        """The encoded image."""
        return self._whole.read(self._numbers[number])


def listings(source: Source, partition: Partition) -> Sequence[str]:
    """A fingerprint of each part's names and sizes, by which a worker knows that it sees the same images."""
    return [listing_fingerprint(Excerpt(source, partition.numbers(part))) for part in range(len(partition))]
