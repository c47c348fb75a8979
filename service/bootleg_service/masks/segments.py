"""What is said of each label of a map: where it is, how large, and its pixels as RLE or polygons."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from PIL import Image

from bootleg_service.errors import RequestError
from bootleg_service.masks import rle
from bootleg_service.masks.placement import UNSEEN
from bootleg_service.masks.polygons import find_vertices, polygons

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from bootleg_bundle.manifest import PixelClass

ROWS: Final = 256
"""Counted at a time: NumPy counts in 64-bit numbers, eight times the map's memory."""

PNG_LEVEL: Final = 1
"""Maps of few labels pack well at once; the higher levels take several times as long for a little less."""


def areas(labels: NDArray[np.uint8]) -> NDArray[np.int64]:
    """Pixels of each label of a map ``[h, w]``, int64 ``[256]``."""
    blocks = (labels[row : row + ROWS].ravel() for row in range(0, len(labels), ROWS))
    return sum((np.bincount(block, minlength=256) for block in blocks), np.zeros(256, np.int64))


def describe(labels: NDArray[np.uint8], classes: Sequence[PixelClass]) -> list[dict[str, Any]]:
    """The labels that appear in a map ``[h, w]``, each with name, colour, area and bounding box."""
    counts = areas(labels)
    found: list[dict[str, Any]] = []
    for label in np.flatnonzero(counts[:UNSEEN]).tolist():
        inside = labels == label
        rows, columns = np.flatnonzero(inside.any(axis=1)), np.flatnonzero(inside.any(axis=0))
        left, top = int(columns[0]), int(rows[0])
        found.append(
            {
                "label": label,
                "name": classes[label].name,
                "color": list(classes[label].color),
                "area": int(counts[label]),
                "bbox": [left, top, int(columns[-1]) + 1 - left, int(rows[-1]) + 1 - top],
            }
        )
    return found


def with_rle(labels: NDArray[np.uint8], found: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Add COCO's run-length code to each described label."""
    codes = rle.encode(labels, np.array([segment["label"] for segment in found], np.int64))
    return [
        segment | {"rle": {"size": list(labels.shape), "counts": code}}
        for segment, code in zip(found, codes, strict=True)
    ]


def with_polygons(
    labels: NDArray[np.uint8], found: list[dict[str, Any]], *, most: int, max_vertices: int
) -> list[dict[str, Any]]:
    """Add polygons to each described label, its ``most`` largest.

    Raises:
        RequestError: the borders of all labels have more vertices than ``max_vertices``.
    """
    borders = [find_vertices(labels == segment["label"]) for segment in found]
    vertices = sum(len(border.x) for border in borders)
    if vertices > max_vertices:
        raise RequestError(
            f"format: polygons of {vertices:,} vertices; the limit is {max_vertices:,}; take rle or a smaller size",
            param="format",
        )
    with_rings: list[dict[str, Any]] = []
    for segment, border in zip(found, borders, strict=True):
        parts = polygons(border)
        rings = [[ring.ravel().tolist() for ring in part] for part in parts[:most]]
        with_rings.append(segment | {"polygons": rings, "polygons_left_out": max(0, len(parts) - most)})
    return with_rings


def png(labels: NDArray[np.uint8], classes: Sequence[PixelClass]) -> bytes:
    """A map ``[h, w]`` as an 8-bit palette PNG: pixel values are labels; ``UNSEEN`` is transparent black."""
    image = Image.fromarray(labels).convert("L")
    palette = [channel for label in classes for channel in label.color]
    image.putpalette(palette + [0] * (768 - len(palette)))
    buffer = io.BytesIO()
    image.save(buffer, "PNG", compress_level=PNG_LEVEL, transparency=bytes([255] * UNSEEN + [0]))
    return buffer.getvalue()
