"""A line of the doctor's report."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Level = Literal["ok", "warn", "bad"]


@dataclass(frozen=True)
class Line:
    """One finding.

    Attributes:
        level: ``ok``; ``warn``, it works but worse than it could; ``bad``, something will fail.
        name: what was looked at.
        value: what was found.
        advice: what to do about it, where there is something to do.
    """

    level: Level
    name: str
    value: str
    advice: str = ""


def size(count: float) -> str:
    """Bytes for a person."""
    return f"{count / 2**30:.1f} GiB"
