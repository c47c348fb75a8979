"""One figure of a run's page: a chart with its heading, a sentence on how to read it, and its values as a table."""

from __future__ import annotations

from dataclasses import dataclass
from html import escape
from typing import TYPE_CHECKING

from bootleg_training.track.plot import chart, short

if TYPE_CHECKING:
    from bootleg_training.track.plot import Level, Series


@dataclass(frozen=True)
class Curve:
    """A figure of the page.

    Attributes:
        title: its heading.
        says: one sentence on how to read it.
        series: its lines.
        levels: lines to compare with.
        unit: ``%`` for shares.
        low: where its y axis begins; None: with the least value.
    """

    title: str
    says: str
    series: list[Series]
    levels: tuple[Level, ...] = ()
    unit: str = ""
    low: float | None = None

    @property
    def empty(self) -> bool:
        """Whether the record has nothing for it."""
        return not any(y is not None for line in self.series for _, y in line.points)

    def html(self) -> str:
        """The figure: heading, legend, chart, reading aid and a table of first and last values."""
        shown = chart(self.title, self.series, levels=self.levels, unit=self.unit, low=self.low)
        rows = "".join(_row(line, self.unit) for line in self.series)
        return (
            f"<figure><figcaption><h3>{escape(self.title)}</h3>{self._legend()}</figcaption>{shown}"
            f'<p class="says">{escape(self.says)}</p><details><summary>Values</summary><table><thead><tr>'
            f"<th>line</th><th>first</th><th>last</th><th>least</th><th>most</th></tr></thead><tbody>{rows}</tbody>"
            "</table></details></figure>"
        )

    def _legend(self) -> str:
        lines = [
            (line.name, "ink" if line.tone is None else f'tone" style="--t:{line.tone:.3f}') for line in self.series
        ]
        marks = [*lines, *((level.name, "level") for level in self.levels)]
        if len(marks) < 2:
            return ""
        return (
            '<ul class="legend">' + "".join(f'<li class="{look}">{escape(name)}</li>' for name, look in marks) + "</ul>"
        )


def _row(line: Series, unit: str) -> str:
    known = [y * (100 if unit == "%" else 1) for _, y in line.points if y is not None]
    if not known:
        return ""
    cells = "".join(f"<td>{short(value)}</td>" for value in (known[0], known[-1], min(known), max(known)))
    return f'<tr><th scope="row">{escape(line.name)}</th>{cells}</tr>'
