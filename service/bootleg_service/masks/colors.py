"""Colours of labels that no bundle gives colours to. The same label always has the same colour."""

from __future__ import annotations

import colorsys
from typing import Final

from bootleg_bundle.manifest import PixelClass

GOLDEN: Final = 0.618033988749895
"""Of a turn of the colour wheel: neighbours in number are far apart in hue, whatever their number."""

FOREGROUND: Final = (
    PixelClass(name="background", color=(0, 0, 0)),
    PixelClass(name="foreground", color=(255, 255, 255)),
)


def cluster_classes(clusters: int) -> tuple[PixelClass, ...]:
    """Names and colours of clusters that have no meaning but their size."""
    return tuple(PixelClass(name=f"cluster {i}", color=_color(i)) for i in range(clusters))


def _color(number: int) -> tuple[int, int, int]:
    red, green, blue = colorsys.hsv_to_rgb(number * GOLDEN % 1, 0.75, 1 - 0.25 * (number // 8 % 3))
    return round(255 * red), round(255 * green), round(255 * blue)
