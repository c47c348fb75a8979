"""Names and colours of a segmentation set's classes, from ``classes.txt``: line k is ``name`` or ``name R G B``.

A colour that is not given is made from the label's number alone, so that it is the same on every machine.
"""

from __future__ import annotations

import colorsys
from itertools import takewhile
from typing import TYPE_CHECKING

from pydantic import ValidationError

from bootleg_bundle.errors import DataError, first_fault
from bootleg_bundle.manifest import PixelClass

if TYPE_CHECKING:
    from pathlib import Path

MAX_CLASSES = 255
"""Labels are 8-bit, and the service keeps one for what it did not see."""
GOLDEN_RATIO = 0.618034
"""A turn of the hue by this share of the circle keeps neighbouring labels apart, however many there are."""


def read_classes(file: Path) -> tuple[PixelClass, ...]:
    """Read ``classes.txt``.

    Raises:
        DataError: it is no text, names fewer than 2 or more than 255 classes, has an empty line or a name twice, or a
            colour is not three numbers from 0 to 255.
    """
    try:
        lines = file.read_text(encoding="utf-8").strip().splitlines()
    except UnicodeDecodeError:
        raise DataError(f"{file} is no text in UTF-8") from None
    if not 2 <= len(lines) <= MAX_CLASSES:
        raise DataError(f"{file} names {len(lines)} classes; a head has 2 to {MAX_CLASSES}")
    classes = tuple(_parse(file, number, line.split()) for number, line in enumerate(lines))
    names = [entry.name for entry in classes]
    if twice := {name for name in names if names.count(name) > 1}:
        raise DataError(f"{file} names {min(twice)!r} twice")
    return classes


def numbered_classes(count: int) -> tuple[PixelClass, ...]:
    """Classes without names of their own."""
    return tuple(PixelClass(name=f"class {label}", color=made_color(label)) for label in range(count))


def made_color(label: int) -> tuple[int, int, int]:
    """RGB of a class that was given none."""
    red, green, blue = colorsys.hsv_to_rgb(label * GOLDEN_RATIO % 1, 0.7, (0.95, 0.7)[label % 2])
    return round(255 * red), round(255 * green), round(255 * blue)


def _parse(file: Path, label: int, words: list[str]) -> PixelClass:
    """A name may have several words; three numbers behind it are its colour, two are half a colour."""
    place = f"{file}, line {label + 1}"
    numbers = list(takewhile(str.isdecimal, reversed(words)))
    if not words or len(numbers) == 2 or len(numbers) >= len(words) > 1:
        raise DataError(f"{place} reads {' '.join(words)!r}; write `name` or `name R G B`")
    colored = len(numbers) >= 3
    name, color = " ".join(words[:-3] if colored else words), made_color(label)
    if colored:
        blue, green, red = (int(number) for number in numbers[:3])
        color = red, green, blue
    try:
        return PixelClass(name=name, color=color)
    except ValidationError as error:
        field, reason = first_fault(error)
        raise DataError(f"{place}: {field}: {reason}") from None
