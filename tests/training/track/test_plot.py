import math
import re
import xml.etree.ElementTree as ET

import pytest

from bootleg_training.track.plot import (
    BOTTOM,
    HEIGHT,
    LEFT,
    RIGHT,
    TOP,
    WIDTH,
    Level,
    Series,
    chart,
    short,
    thinned,
    ticks,
)


def paths(svg):
    return [path.get("d") for path in ET.fromstring(svg).iter("path")]


def numbers(path):
    return [tuple(map(float, point.split())) for point in re.findall(r"[ML]([\d.-]+ [\d.-]+)", path)]


@pytest.mark.parametrize(
    ("low", "high", "expected"),
    [
        (0, 1, [0, 0.2, 0.4, 0.6, 0.8, 1]),
        (-0.2, 0.6, [-0.2, 0, 0.2, 0.4, 0.6]),
        (22.5, 40.2, [20, 25, 30, 35, 40, 45]),
        (0, 1_000_064, [0, 200_000, 400_000, 600_000, 800_000, 1_000_000, 1_200_000]),
        (0.996, 0.998, [0.996, 0.9965, 0.997, 0.9975, 0.998]),
    ],
)
def test_ticks_are_round_and_cover_the_range(low, high, expected):
    assert ticks(low, high) == pytest.approx(expected)


@pytest.mark.parametrize("value", [0.0, 0.25, -3.0, 1e-9])
def test_a_range_of_nothing_still_has_ticks_around_it(value):
    marks = ticks(value, value)
    assert marks[0] < value < marks[-1]
    assert len(marks) > 1


def test_corners_lie_at_the_corners_of_the_plot():
    svg = chart("t", [Series("a", [(0, 0.0), (50, 0.5), (100, 1.0)])])
    (start, middle, end) = numbers(paths(svg)[0])
    left, right, top, bottom = LEFT, WIDTH - RIGHT, TOP, HEIGHT - BOTTOM
    assert start == (left, bottom)
    assert end == (right, top)
    assert middle == ((left + right) / 2, (top + bottom) / 2)


def test_shares_are_drawn_in_per_cent():
    svg = chart("t", [Series("a", [(0, 0.0), (1, 0.5)])], unit="%", levels=(Level("twin", 0.25),))
    assert "50 %" in svg
    assert numbers(paths(svg)[0])[-1][1] == TOP
    level = next(line for line in ET.fromstring(svg).iter("line") if line.get("class") == "level")
    assert float(level.get("y1")) == pytest.approx((TOP + HEIGHT - BOTTOM) / 2)
    assert "a: from 0 to 50 %; twin: 25 %" in svg


def test_a_gap_lifts_the_pen():
    svg = chart("t", [Series("a", [(0, 1.0), (1, None), (2, math.nan), (3, 2.0), (4, 3.0)])])
    assert re.sub(r"[\d. -]", "", paths(svg)[0]) == "MML"


def test_a_line_may_run_off_below_a_given_floor_and_is_clipped():
    svg = chart("t", [Series("a", [(0, -5.0), (1, 1.0)])], low=0.0)
    assert numbers(paths(svg)[0])[0][1] > HEIGHT
    assert 'clip-path="url(#clip-' in svg
    assert ">-5<" not in svg


@pytest.mark.parametrize("series", [[], [Series("a", [])], [Series("a", [(0, None)])], [Series("a", [(0, 0.0)])]])
def test_nothing_and_one_point_can_be_drawn(series):
    root = ET.fromstring(chart("t", series))
    assert root.get("role") == "img"
    assert not any(part in ET.tostring(root, encoding="unicode") for part in ("nan", "inf"))


def test_names_are_escaped_and_read_out():
    svg = chart("<b>&", [Series('"<i>', [(0, 1.0), (1, 2.0)], dots=True)], x_name="<x>")
    root = ET.fromstring(svg)
    assert root.find("title").text == "<b>&"
    assert root.find("desc").text == '"<i>: from 1 to 2'
    assert [dot.find("title").text for dot in root.iter("circle")] == ['"<i>: 1 at 0', '"<i>: 2 at 1']


def test_equal_numbers_draw_equal_charts_and_titles_have_their_own_clips():
    line = [Series("a", [(0, 1 / 3), (7, 2 / 3)])]
    assert chart("t", line) == chart("t", line)
    one, two = (re.search(r'clipPath id="([^"]+)"', chart(title, line)).group(1) for title in ("t", "u"))
    assert one != two


def test_long_lines_keep_their_order_and_their_spikes():
    points = [(float(x), 1.0) for x in range(10_000)]
    points[4321] = (4321.0, 99.0)
    points[77] = (77.0, None)
    kept = thinned(points)
    assert len(kept) <= 400
    assert (4321.0, 99.0) in kept
    assert [x for x, _ in kept] == sorted({x for x, _ in kept})
    assert thinned(points[:100]) == points[:100]


@pytest.mark.parametrize(
    ("value", "expected"),
    [(0, "0"), (0.12344, "0.1234"), (950, "950"), (1000, "1k"), (1_000_064, "1M"), (-2.5e9, "-2.5G")],
)
def test_labels_are_short(value, expected):
    assert short(value) == expected


def test_lines_that_lie_below_the_axis_altogether_move_it():
    svg = chart("t", [Series("a", [(0, -0.86), (100, -0.43)])], unit="%", low=-0.2)
    (start, end) = numbers(paths(svg)[0])
    assert TOP <= end[1] < start[1] <= HEIGHT - BOTTOM


def test_a_level_that_is_not_finite_is_left_out():
    line = Series("a", [(0, 1.0), (100, 2.0)])
    known, unknown = Level("known", 1.5), Level("unknown", math.nan)
    assert chart("t", [line], levels=(known, unknown)) == chart("t", [line], levels=(known,))
