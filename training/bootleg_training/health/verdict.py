"""Is it learning? One pure function from figures to a verdict, by the table of rules.

The monitor calls it after each check, the report page for the last one. It never measures anything.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from bootleg_training.health.rules import RULES, Evidence

if TYPE_CHECKING:
    from bootleg_training.health.figures import Health
    from bootleg_training.health.rules import Level


@dataclass(frozen=True)
class Verdict:
    """What the figures mean: the gravest rule that fired, or ``healthy``."""

    level: Level
    rule: str
    reason: str

    def __str__(self) -> str:
        return f"verdict: {self.level} ({self.rule}): {self.reason}"


def verdict(now: Health, start: Health, recent: list[dict[str, Any]], *, done: float | None = None) -> Verdict:
    """Judge an encoder.

    Args:
        now: its figures.
        start: those of its untrained twin.
        recent: the last log lines of training steps, about 50.
        done: share of the run done, 0 to 1.
    """
    evidence = Evidence(now, start, recent, done)
    for rule in RULES:
        reason = rule.reason(evidence)
        if reason is not None:
            return Verdict(rule.level, rule.name, reason)
    blind = start.rank_me is None and start.knn is None
    return Verdict("ok", "healthy", "no rule fired" + ("; the untrained twin was not measured" if blind else ""))
