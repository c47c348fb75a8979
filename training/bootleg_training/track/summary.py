"""The head of a run's page: what the run is, its verdict, how far it is, and its newest figures."""

from __future__ import annotations

from html import escape
from typing import TYPE_CHECKING, Any

from bootleg_training.track.plot import short

if TYPE_CHECKING:
    from bootleg_training.track.folder import RunFolder

WORDS = {"ok": "Learning", "warn": "Look closer", "collapsed": "Collapsed"}


def head(run: RunFolder) -> str:
    """Name, verdict and state of the run."""
    verdict = run.verdict()
    level, word = (verdict.level, WORDS[verdict.level]) if verdict else ("none", "No verdict yet")
    why = f"{verdict.rule.replace('_', ' ')}: {verdict.reason}" if verdict else "no health check is on record"
    finished = bool(run.checkpoint) or (run.steps is not None and run.done >= run.steps)
    of = f" of {run.steps:,}" if run.steps else ""
    state = f"finished: {run.done:,} steps" if finished else f"step {run.done:,}{of}: stopped, or still running"
    damaged = f" · {run.record.damaged} damaged lines left out" if run.record.damaged else ""
    return (
        f'<header><p class="kind">Bootleg training report</p><h1>{escape(run.name)}</h1>'
        f'<p class="what">{escape(_what(run))}</p>'
        f'<p class="verdict {level}"><strong>{word}</strong> <span>{escape(why)}</span></p>'
        f'<p class="state">{escape(state)}{escape(damaged)}</p></header>'
    )


def _what(run: RunFolder) -> str:
    encoder = run.config.get("encoder") or {}
    shape = f"ViT {encoder.get('width')}x{encoder.get('depth')}/{encoder.get('patch_size')}" if encoder else ""
    size = f"{encoder['image_size']} px" if "image_size" in encoder else ""
    layers = f"target layers {', '.join(map(str, run.layers))}" if run.layers else ""
    data = str(provenance(run).get("dataset") or (run.began.get("data") or {}).get("name") or "")
    return " · ".join(part for part in (shape, size, data, layers) if part)


def tiles(run: RunFolder) -> str:
    """The newest figures, those of the untrained twin beside them."""
    last = run.record.steps[-1] if run.record.steps else {}
    tiles = []
    if "images" in last:
        tiles.append(("images seen", short(last["images"]), _time(last.get("seconds"))))
    if last.get("explained"):
        known = [share for share in last["explained"] if share is not None]
        tiles.append(("explained", f"{100 * sum(known) / max(len(known), 1):.0f} %", "mean of the target layers"))
    if last.get("loss") is not None:
        tiles.append(("loss", f"{last['loss']:.3f}", "its targets move"))
    now, twin = run.teacher[-1] if run.teacher else None, run.twin
    for name, label, form in (("knn", "k-NN", "%"), ("rank_me", "RankMe", ""), ("alpha_req", "alpha-ReQ", "")):
        value, untrained = (getattr(one, name) if one else None for one in (now, twin))
        if value is not None:
            beside = "" if untrained is None else f"untrained {figure(untrained, form)}"
            tiles.append((label, figure(value, form), beside))
    shown = "".join(
        f'<div><dt>{escape(label)}</dt><dd>{escape(value)}</dd><dd class="beside">{escape(beside)}</dd></div>'
        for label, value, beside in tiles
    )
    return f'<dl class="tiles">{shown}</dl>' if tiles else ""


def provenance(run: RunFolder) -> dict[str, Any]:
    """What a run was made with: its checkpoint's record, or that of its beginning."""
    return run.checkpoint.get("provenance") or run.began


def figure(value: float | None, form: str) -> str:
    """A number in words; ``form`` is ``%`` for shares."""
    if value is None:
        return "-"
    return f"{100 * value:.1f} %" if form == "%" else f"{value:.3g}"


def _time(seconds: float | None) -> str:
    if not seconds:
        return ""
    hours, minutes = divmod(round(seconds / 60), 60)
    return f"in {hours} h {minutes:02d} min" if hours else f"in {minutes} min"
