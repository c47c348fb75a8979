"""Borders of a mask as polygons with holes, exactly: filling them gives the mask back, pixel for pixel.

Borders run along the edges of pixels, with a vertex where they turn. Pixels that touch at a corner only are not
joined; background that touches at a corner only is. With y pointing down, an outer ring turns clockwise and keeps
its pixels on the right, a hole turns the other way. Nesting is found as Suzuki and Abe (1985) do: the border met last,
to the left of a hole's first pixel, is its parent or its sibling.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray


@dataclass(frozen=True)
class Vertices:
    """Turns of all borders, V of them; a corner where two borders touch is two.

    Attributes:
        x: of the corner, 0 to w.
        y: of the corner, 0 to h.
        following: index of the next vertex of the border.
        down: whether the vertical edge of this vertex leads down from it.
        across: index of the vertex at the other end of its vertical edge.
    """

    x: NDArray[np.int64]
    y: NDArray[np.int64]
    following: NDArray[np.int64]
    down: NDArray[np.bool_]
    across: NDArray[np.int64]


def find_vertices(mask: NDArray[np.bool_]) -> Vertices:
    """Find and link the turns of a mask's borders ``[h, w]``; all of it in NumPy."""
    padded = np.pad(mask, 1)
    nw, ne, sw, se = padded[:-1, :-1], padded[:-1, 1:], padded[1:, :-1], padded[1:, 1:]
    touch = (nw == se) & (ne == sw) & (nw != ne)
    y, x = np.nonzero((nw ^ ne ^ sw ^ se) | touch)
    touching = touch[y, x]
    # An edge leads east where the pixels above and below it differ, and so on; at a touch all four edges do.
    east, south = (ne != se)[y, x], (sw != se)[y, x]
    # A touch of nw and se turns west to north and east to south; one of ne and sw, east to north and west to south.
    falling = touching & nw[y, x]
    first_east = np.where(touching, ~falling, east)
    second = np.flatnonzero(touching)
    x, y = np.concatenate((x, x[second])), np.concatenate((y, y[second]))
    down = np.concatenate((south & ~touching, np.ones(len(second), bool)))
    right = np.concatenate((first_east, falling[second]))
    beside = _partners(np.lexsort((right, x, y)))
    across = _partners(np.lexsort((down, y, x)))
    # Pixels are on the right of the way: eastwards with the mask below the edge, southwards with the mask west of it.
    below = padded[y + 1, np.where(right, x + 1, x)]
    following = np.where(right == below, beside, across)
    return Vertices(x, y, following, down, across)


def trace(vertices: Vertices) -> list[NDArray[np.int64]]:
    """Walk the borders: the indices of each ring's vertices, in order."""
    following = vertices.following.tolist()
    seen = bytearray(len(following))
    rings: list[NDArray[np.int64]] = []
    for start in range(len(following)):
        if seen[start]:
            continue
        ring, at = [], start
        while not seen[at]:
            seen[at] = 1
            ring.append(at)
            at = following[at]
        rings.append(np.array(ring))
    return rings


def polygons(vertices: Vertices) -> list[list[NDArray[np.int64]]]:
    """Polygons of a mask, the largest first, each its outer ring and then its holes.

    Returns:
        Rings ``[n, 2]`` of (x, y) corners of pixels, not closed: the last vertex is joined to the first.
    """
    traced = trace(vertices)
    rings = [np.stack((vertices.x[ring], vertices.y[ring]), axis=1) for ring in traced]
    areas = [twice_area(ring) for ring in rings]
    owner = np.empty(len(vertices.x), np.int64)
    for number, ring in enumerate(traced):
        owner[ring] = number
    found: dict[int, list[NDArray[np.int64]]] = {i: [rings[i]] for i, area in enumerate(areas) if area > 0}
    for hole, parent in _parents(vertices, owner, rings, areas):
        found[parent].append(rings[hole])
    return [found[i] for i in sorted(found, key=lambda i: -areas[i])]


def twice_area(ring: NDArray[np.int64]) -> int:
    """Twice the enclosed area; negative for a hole."""
    x, y = ring.T
    return int(np.sum(x * np.roll(y, -1) - np.roll(x, -1) * y))


def _partners(order: NDArray[np.int64]) -> NDArray[np.int64]:
    """Join the first and second in ``order``, the third and fourth, and so on: the two ends of each edge."""
    partners = np.empty_like(order)
    partners[order[::2]], partners[order[1::2]] = order[1::2], order[::2]
    return partners


def _parents(
    vertices: Vertices, owner: NDArray[np.int64], rings: list[NDArray[np.int64]], areas: list[int]
) -> Iterator[tuple[int, int]]:
    """Each hole and its outer ring. A hole's highest edge lies below the mask's pixel that decides."""
    upper = np.flatnonzero(vertices.down)
    x, top, bottom = vertices.x[upper], vertices.y[upper], vertices.y[vertices.across[upper]]
    parent = {i: i for i, area in enumerate(areas) if area > 0}
    holes = [i for i, area in enumerate(areas) if area < 0]
    tops = {i: min((int(y), int(x)) for x, y in rings[i]) for i in holes}
    for hole in sorted(holes, key=tops.__getitem__):  # whatever crosses the row above a hole begins above it
        y, left = tops[hole]
        met = np.flatnonzero((top < y) & (bottom >= y) & (x <= left))
        parent[hole] = parent[int(owner[upper[met[x[met].argmax()]]])]
        yield hole, parent[hole]
