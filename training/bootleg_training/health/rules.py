"""The rules of the verdict: what each looks for in a run's figures, and what it says when it fires.

Thresholds come from recorded runs of the nano encoder on CIFAR-10 (docs/training.md): a healthy one, whose
RankMe went from 6.96 untrained by 6.63 (after 13 % of the run) to 15.3 while k-NN rose from 22.5 to 39.5 %, and
four shorter ones, whose RankMe fell to 3.7 to 4.9 while k-NN stayed within 2.5 points of the twin's.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from collections.abc import Callable

    from bootleg_training.health.figures import Health

Level = Literal["ok", "warn", "collapsed"]

NOT_FINITE = "not_finite"
TOKEN_STD_GONE, TOKEN_STD_LOW = 0.05, 0.15
"""Of tokens of length 1 a channel: at 0.05, a constant holds 99.75 % of them. The healthy run's lowest was 0.44."""
RANK_GONE, RANK_LOW = 1 / 3, 0.85
"""Of the twin's RankMe. Healthy: never under 0.95; partly collapsed: 0.53 to 0.74; constant features: 1 / 7."""
SPREAD_GONE, SPREAD_LOW = 0.02, 0.2
"""Of the twin's 1 - cosine. Healthy: never under 0.35; partly collapsed: 0.21 to 0.29."""
KNN_FROM, KNN_LATE = 0.2, 0.5
"""Share of the run after which k-NN must beat the twin's: where much is explained, and anyway."""
EXPLAINED_MUCH, EXPLAINED_NOTHING = 0.3, 0.02
"""Mean share of the targets' variance. A share of 0.5 was reached by the healthy run and by collapsed ones alike."""
EXPLAINED_FROM = 0.1
LOSS_RISE, LOSS_LINES = 1.25, 20
"""Mean of the last 10 log lines by that of up to 40 before. Healthy runs, whose targets move: up to 1.03."""


@dataclass(frozen=True)
class Evidence:
    """What a rule may read.

    Attributes:
        now: figures of the teacher.
        start: figures of the untrained twin.
        recent: the last log lines of steps, the newest last.
        done: share of the run done; None where its length is not known, and rules that need it rest.
    """

    now: Health
    start: Health
    recent: list[dict[str, Any]]
    done: float | None


@dataclass(frozen=True)
class Rule:
    """One line of the table.

    Attributes:
        name: short and stable.
        level: of the verdict when the rule fires.
        text: what it looks for.
        reason: says why it fires, with the numbers; None if it does not, or if what it needs was not measured.
    """

    name: str
    level: Level
    text: str
    reason: Callable[[Evidence], str | None]


def _not_finite(e: Evidence) -> str | None:
    figures = [e.now.rank_me, e.now.cosine, *e.now.token_std_layers]
    bad = sum(figure is not None and not math.isfinite(figure) for figure in figures)
    return f"{bad} figures of the teacher are not finite: its weights are spoilt" if bad else None


def _targets(limit: float) -> Callable[[Evidence], str | None]:
    def reason(e: Evidence) -> str | None:
        stds = e.now.token_std_layers or _newest(e.recent, "target_std")
        lowest = min(stds, default=limit)
        place = stds.index(lowest) + 1 if lowest < limit else 0
        return f"target layer {place} of {len(stds)}: std {lowest:.3f}, limit {limit}" if place else None

    return reason


def _rank(limit: float) -> Callable[[Evidence], str | None]:
    def reason(e: Evidence) -> str | None:
        if e.now.rank_me is None or not e.start.rank_me or e.now.rank_me >= limit * e.start.rank_me:
            return None
        share = e.now.rank_me / e.start.rank_me
        return f"RankMe {e.now.rank_me:.1f} is {_percent(share)} of the untrained twin's {e.start.rank_me:.1f}"

    return reason


def _spread(limit: float) -> Callable[[Evidence], str | None]:
    def reason(e: Evidence) -> str | None:
        now, start = e.now.cosine, e.start.cosine
        if now is None or start is None or 1 - now >= limit * (1 - start):
            return None
        return f"two images' embeddings have a cosine of {now:.4f}, the untrained twin's {start:.4f}"

    return reason


def _skipped(e: Evidence) -> str | None:
    counts = [line["skipped_steps"] for line in e.recent if line.get("skipped_steps") is not None]
    new = int(counts[-1] - counts[0]) if counts else 0
    return f"{new} of the last steps had a loss or gradient that was not finite" if new > 0 else None


def _easy_targets(e: Evidence) -> str | None:
    explained = _mean(_newest(e.recent, "explained"))
    if e.done is None or e.done < KNN_FROM or explained is None or explained < EXPLAINED_MUCH or _beats_twin(e):
        return None
    return (
        f"{_percent(explained)} of the targets' variance is explained, but {_knn_line(e)}: the targets have become easy"
    )


def _no_better(e: Evidence) -> str | None:
    if e.done is None or e.done < KNN_LATE or _beats_twin(e):
        return None
    return f"after {_percent(e.done)} of the run {_knn_line(e)}"


def _nothing_explained(e: Evidence) -> str | None:
    means = [_mean(line["explained"]) for line in e.recent[-10:] if line.get("explained")]
    mean = _mean([value for value in means if value is not None])
    if e.done is None or e.done < EXPLAINED_FROM or mean is None or mean >= EXPLAINED_NOTHING:
        return None
    return f"the predictions explain {_percent(mean)} of the targets' variance: no more than a constant would"


def _loss_rises(e: Evidence) -> str | None:
    losses = [line["loss"] for line in e.recent[-50:] if line.get("loss") is not None]
    if len(losses) < LOSS_LINES:
        return None
    late, early = sum(losses[-10:]) / 10, sum(losses[:-10]) / len(losses[:-10])
    return f"the loss rose from {early:.3f} to {late:.3f}" if late > LOSS_RISE * early else None


def _beats_twin(e: Evidence) -> bool:
    """By two standard errors of the queries' binomial; True, too, where there are no labels to say otherwise."""
    now, start = e.now.knn, e.start.knn
    if now is None or start is None:
        return True
    queries = e.now.knn_queries or 600  # as many as older records had, at most
    return now == 1 or now > start + 2 * math.sqrt(start * (1 - start) / queries)


def _knn_line(e: Evidence) -> str:
    assert e.now.knn is not None
    assert e.start.knn is not None
    return f"k-NN {_percent(e.now.knn, 1)} does not clearly beat the untrained twin's {_percent(e.start.knn, 1)}"


def _percent(share: float, digits: int = 0) -> str:
    return f"{100 * share:.{digits}f} %"


def _newest(recent: list[dict[str, Any]], name: str) -> list[float]:
    """The numbers of the newest line; none where there are none."""
    return [value for value in (recent[-1].get(name) or []) if value is not None] if recent else []


def _mean(values: list[float]) -> float | None:
    known = [value for value in values if value is not None]
    return sum(known) / len(known) if known else None


RULES = (
    Rule(NOT_FINITE, "collapsed", "a figure of the teacher is not a number", _not_finite),
    Rule("targets_vanished", "collapsed", "a layer's targets are a constant", _targets(TOKEN_STD_GONE)),
    Rule("rank_vanished", "collapsed", "RankMe under a third of the untrained twin's", _rank(RANK_GONE)),
    Rule("images_alike", "collapsed", "embeddings spread under 2 % of the twin's", _spread(SPREAD_GONE)),
    Rule("steps_skipped", "warn", "steps that were not finite, of late", _skipped),
    Rule("rank_fell", "warn", "RankMe under 85 % of the untrained twin's", _rank(RANK_LOW)),
    Rule("targets_shrink", "warn", "a layer's targets are nearly a constant", _targets(TOKEN_STD_LOW)),
    Rule("images_near", "warn", "embeddings spread under a fifth of the twin's", _spread(SPREAD_LOW)),
    Rule("easy_targets", "warn", "much explained, k-NN no better than the twin's after a fifth", _easy_targets),
    Rule("no_better", "warn", "k-NN no better than the untrained twin's after half the run", _no_better),
    Rule("nothing_explained", "warn", "under 2 % explained after a tenth of the run", _nothing_explained),
    Rule("loss_rises", "warn", "the loss is a quarter above what it was", _loss_rises),
)
"""The gravest first: the first that fires is the verdict."""
