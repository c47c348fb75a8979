import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bootleg_service.masks.polygons import find_vertices, polygons, trace, twice_area

from .maps import masks, rings


def of(mask):
    return polygons(find_vertices(mask))


def winding(ring, shape):
    """How often a ring goes round each pixel's centre, by the vertical edges left of it."""
    turns = np.zeros(shape, int)
    for (x0, y0), (x1, y1) in zip(ring, np.roll(ring, -1, axis=0), strict=True):
        if x0 == x1:
            turns[min(y0, y1) : max(y0, y1), x0:] += 1 if y1 < y0 else -1
    return turns


def filled(polygon, shape):
    return sum(winding(ring, shape) for ring in polygon)


@given(masks())
def test_filling_the_polygons_gives_the_mask_back(mask):
    total = np.zeros(mask.shape, int)
    for polygon in of(mask):
        inside = filled(polygon, mask.shape)
        assert set(np.unique(inside)) <= {0, 1}
        total += inside
    np.testing.assert_array_equal(total, mask)


@given(masks())
def test_each_polygon_is_one_connected_part(mask):
    for polygon in of(mask):
        inside = filled(polygon, mask.shape).astype(bool)
        assert flood(inside) == inside.sum()


def flood(part):
    """Pixels reached from the first one over edges."""
    reached = {tuple(np.argwhere(part)[0])}
    edge = list(reached)
    while edge:
        y, x = edge.pop()
        for at in ((y + 1, x), (y - 1, x), (y, x + 1), (y, x - 1)):
            if 0 <= at[0] < part.shape[0] and 0 <= at[1] < part.shape[1] and part[at] and at not in reached:
                reached.add(at)
                edge.append(at)
    return len(reached)


@given(masks())
def test_rings_turn_at_every_vertex_and_meet_none_twice(mask):
    vertices = find_vertices(mask)
    traced = trace(vertices)
    assert sorted(np.concatenate([np.empty(0, int), *traced])) == list(range(len(vertices.x)))
    for polygon in of(mask):
        assert twice_area(polygon[0]) > 0
        assert all(twice_area(hole) < 0 for hole in polygon[1:])
        for ring in polygon:
            steps = np.roll(ring, -1, axis=0) - ring
            assert (np.count_nonzero(steps, axis=1) == 1).all()
            assert ((steps != 0) != (np.roll(steps, 1, axis=0) != 0)).all()


@pytest.mark.parametrize("count", [1, 2, 5])
def test_rings_in_rings_are_a_polygon_with_a_hole_each_the_largest_first(count):
    found = of(rings(count))
    assert [len(polygon) for polygon in found] == [2] * count
    areas = [twice_area(polygon[0]) for polygon in found]
    assert areas == sorted(areas, reverse=True)


def test_holes_beside_each_other_belong_to_the_one_outer_ring():
    mask = np.ones((5, 9), bool)
    mask[2, 1::2] = False
    (polygon,) = of(mask)
    assert len(polygon) == 5


def test_a_square_is_its_four_corners_clockwise_from_the_first():
    mask = np.zeros((4, 5), bool)
    mask[1:3, 2:4] = True
    ((ring,),) = of(mask)
    assert ring.tolist() == [[2, 1], [4, 1], [4, 3], [2, 3]]


def test_an_empty_mask_has_no_polygon():
    assert of(np.zeros((3, 3), bool)) == []


@given(st.integers(1, 6))
def test_pixels_that_touch_at_a_corner_are_apart_and_such_holes_are_one(side):
    board = np.indices((2 * side, 2 * side)).sum(axis=0) % 2 == 0
    assert len(of(board)) == board.sum()
    framed = np.pad(~board, 1, constant_values=True)
    assert len(max(of(framed), key=len)) <= 1 + board.sum()
