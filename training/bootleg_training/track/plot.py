"""Line charts as inline SVG: from numbers to a string, with no file, no script and no style of its own.

The report's style sheet colours them. Coordinates are rounded to a tenth, so that equal numbers draw
equal charts.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from html import escape
from itertools import pairwise

WIDTH, HEIGHT = 520, 250
LEFT, RIGHT, TOP, BOTTOM = 58, 14, 10, 36
"""Room around the plot: tick labels on the left and below, half a label on the right."""

MAX_POINTS = 400
"""Points of a line; more are cut to the extremes of equal parts, which keeps spikes."""

Point = tuple[float, float | None]


@dataclass(frozen=True)
class Series:
    """A line.

    Attributes:
        name: for the legend.
        points: rising x; a y of None, or one that is not finite, is a gap.
        tone: 0 to 1, its place in the style's colour scale; None: the ink of text.
        dots: mark each point.
    """

    name: str
    points: list[Point]
    tone: float | None = None
    dots: bool = False


@dataclass(frozen=True)
class Level:
    """A dashed horizontal line to compare with."""

    name: str
    y: float


@dataclass(frozen=True)
class Axis:
    """A linear scale from data to the picture's units."""

    low: float
    high: float
    start: float
    stop: float

    def __call__(self, value: float) -> float:
        """Where a value lies."""
        return self.start + (value - self.low) / (self.high - self.low) * (self.stop - self.start)


def chart(
    title: str,
    series: list[Series],
    *,
    levels: tuple[Level, ...] = (),
    unit: str = "",
    low: float | None = None,
    x_name: str = "images seen",
) -> str:
    """Draw lines over a common x axis.

    Args:
        title: read out by screen readers, with each line's first and last value.
        series: lines; those without a finite point are left out.
        levels: lines to compare with.
        unit: behind tick labels of y; ``%`` multiplies by 100.
        low: where the y axis begins; lines may run off below. None, or if everything lies below: with the least value.
        x_name: below the axis.

    Returns:
        ``<svg>...</svg>``.
    """
    factor = 100.0 if unit == "%" else 1.0
    levels = tuple(level for level in levels if math.isfinite(level.y))
    drawn = [Series(s.name, _scaled(s.points, factor), s.tone, s.dots) for s in series]
    drawn = [s for s in drawn if any(y is not None for _, y in s.points)]
    ys = [y for s in drawn for _, y in s.points if y is not None] + [factor * level.y for level in levels]
    xs = [x for s in drawn for x, _ in s.points]
    least, most = min(ys, default=0.0), max(ys, default=1.0)
    bottom = least if low is None or most <= factor * low else factor * low
    y_ticks = ticks(bottom, most)
    x_ticks = ticks(0.0, max(xs, default=1.0))
    x = Axis(0.0, max(max(xs, default=1.0), 1e-9), LEFT, WIDTH - RIGHT)
    y = Axis(y_ticks[0], y_ticks[-1], HEIGHT - BOTTOM, TOP)
    clip = f"clip-{hash_of(title):x}"
    room = f'width="{WIDTH - LEFT - RIGHT + 4}" height="{HEIGHT - TOP - BOTTOM + 4}"'
    parts = [
        f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" class="chart">',
        f"<title>{escape(title)}</title><desc>{escape(_described(drawn, levels, factor, unit))}</desc>",
        f'<clipPath id="{clip}"><rect x="{LEFT}" y="{TOP - 2}" {room}/></clipPath>',
        *(_y_tick(y, tick, y_ticks, unit) for tick in y_ticks),
        *(_x_tick(x, tick) for tick in x_ticks if tick <= x.high),
        f'<text class="axis" x="{WIDTH - RIGHT}" y="{HEIGHT - 3}" text-anchor="end">{escape(x_name)}</text>',
        f'<g clip-path="url(#{clip})">',
        *(_level(y, factor * level.y) for level in levels),
        *(_line(x, y, s) for s in drawn),
        "</g></svg>",
    ]
    return "".join(parts)


def ticks(low: float, high: float, count: int = 6) -> list[float]:
    """About ``count`` round numbers, 1, 2 or 5 times a power of ten apart, from below ``low`` to above ``high``."""
    if not high > low:
        low, high = low - (abs(low) / 10 or 0.5), high + (abs(high) / 10 or 0.5)
    rough = (high - low) / (count - 1)
    power = 10.0 ** math.floor(math.log10(rough))
    apart = next(step * power for step in (1, 2, 5, 10) if step * power >= rough * 0.999)
    first, last = math.floor(low / apart + 1e-9), math.ceil(high / apart - 1e-9)
    return [float(f"{place * apart:.10g}") for place in range(first, last + 1)]


def thinned(points: list[Point], limit: int = MAX_POINTS) -> list[Point]:
    """At most ``limit`` points: of each of ``limit / 2`` equal parts the lowest and the highest; gaps go."""
    known = [(x, y) for x, y in points if y is not None]
    if len(known) <= limit:
        return points if len(points) <= limit else [*known]
    parts = limit // 2
    edges = [round(place * len(known) / parts) for place in range(parts + 1)]
    kept: list[Point] = []
    for start, stop in pairwise(edges):
        part = known[start:stop]
        kept += sorted({min(part, key=lambda p: p[1]), max(part, key=lambda p: p[1])})
    return kept


def short(value: float) -> str:
    """A number for a label: four digits at most, thousands as k and M."""
    for size, sign in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if abs(value) >= size:
            return f"{value / size:.3g}{sign}"
    return f"{value:.4g}"


def hash_of(text: str) -> int:
    """A number for an id, equal in every process."""
    return int.from_bytes(text.encode(), "big") % (2**61 - 1)


def _scaled(points: list[Point], factor: float) -> list[Point]:
    return thinned([(x, factor * y if y is not None and math.isfinite(y) else None) for x, y in points])


def _described(drawn: list[Series], levels: tuple[Level, ...], factor: float, unit: str) -> str:
    said = []
    for line in drawn:
        known = [y for _, y in line.points if y is not None]
        said.append(f"{line.name}: from {short(known[0])} to {short(known[-1])} {unit}".rstrip())
    return "; ".join(said + [f"{level.name}: {short(factor * level.y)} {unit}".rstrip() for level in levels])


def _y_tick(y: Axis, tick: float, all_ticks: list[float], unit: str) -> str:
    at = f"{y(tick):.1f}"
    word = f"{tick:g} {unit}".rstrip() if tick == all_ticks[-1] else f"{tick:g}"
    return (
        f'<line class="{"base" if tick == all_ticks[0] else "grid"}" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{at}" '
        f'y2="{at}"/><text class="tick" x="{LEFT - 8}" y="{float(at) + 4:.1f}" text-anchor="end">{escape(word)}</text>'
    )


def _x_tick(x: Axis, tick: float) -> str:
    return f'<text class="tick" x="{x(tick):.1f}" y="{HEIGHT - BOTTOM + 16}" text-anchor="middle">{short(tick)}</text>'


def _level(y: Axis, value: float) -> str:
    return f'<line class="level" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y(value):.1f}" y2="{y(value):.1f}"/>'


def _line(x: Axis, y: Axis, series: Series) -> str:
    steps: list[str] = []
    pen = "M"
    for at, value in series.points:
        if value is None:
            pen = "M"
            continue
        steps.append(f"{pen}{x(at):.1f} {y(value):.1f}")
        pen = "L"
    look = 'class="line ink"' if series.tone is None else f'class="line tone" style="--t:{series.tone:.3f}"'
    dots = [
        f'<circle cx="{x(at):.1f}" cy="{y(value):.1f}" r="2.6"><title>{escape(series.name)}: {short(value)} at '
        f"{short(at)}</title></circle>"
        for at, value in series.points
        if series.dots and value is not None
    ]
    return f'<g {look}><path d="{"".join(steps)}"/>{"".join(dots)}</g>'
