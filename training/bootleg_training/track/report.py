"""The page of a run: one HTML file that needs nothing else, on screen and on paper.

``bootleg report`` calls :func:`write_report`. Whatever was read from a file is escaped, and the page
forbids itself to load anything.
"""

from __future__ import annotations

from html import escape
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bootleg_bundle.errors import CheckpointError, DataError
from bootleg_training.compose import flat
from bootleg_training.data.pack import open_pack
from bootleg_training.health.verdict import RULES
from bootleg_training.track.curves import learning, machinery
from bootleg_training.track.folder import RunFolder, read_run
from bootleg_training.track.pictures import pictures
from bootleg_training.track.plot import short

if TYPE_CHECKING:
    from bootleg_training.data.pack import Pack
    from bootleg_training.track.curves import Curve

POLICY = "default-src 'none'; style-src 'unsafe-inline'; img-src data:"
WORDS = {"ok": "Learning", "warn": "Look closer", "collapsed": "Collapsed"}


def write_report(path: Path, out: Path, data: Path | None = None) -> Path:
    """Write the page of a run; the run may still be going on.

    Args:
        path: run folder.
        out: the HTML file, replaced at once where it exists.
        data: pack to take example images from; None: the one that the run was begun with, if it can still be read.

    Raises:
        DataError: ``path`` is no run folder, or ``data`` no pack.
    """
    run = read_run(path)
    page = render(run, *_find_pack(run, data))
    partial = out.with_name(out.name + ".partial")
    partial.write_text(page, encoding="utf-8")
    partial.replace(out)
    return out


def render(run: RunFolder, pack: Pack | None, without: str = "") -> str:
    """The page as a string.

    Args:
        run: what is shown.
        pack: for the pictures of patch tokens.
        without: says why there is no pack.
    """
    style = (files("bootleg_training.track") / "report.css").read_text(encoding="utf-8")
    body = "".join(
        [
            _head(run),
            _tiles(run),
            _curves("Is it learning?", "grid", learning(run)),
            _curves("Schedule and machine", "grid small", machinery(run)),
            _pictures(run, pack, without),
            _probes(run),
            _table("Settings", "Resolved: nothing is left to derive.", _cells(run.config)),
            _table("Provenance", "What it was made with.", _cells(_provenance(run))),
            _rules(),
        ]
    )
    return (
        '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8"><meta name="viewport" '
        f'content="width=device-width, initial-scale=1"><meta http-equiv="Content-Security-Policy" content="{POLICY}">'
        f'<meta name="color-scheme" content="light dark"><title>{escape(run.name)}: training report</title>'
        f"<style>{style}</style></head><body><main>{body}</main></body></html>\n"
    )


def _find_pack(run: RunFolder, data: Path | None) -> tuple[Pack | None, str]:
    if data is not None:
        return open_pack(data), ""
    recorded = (run.began.get("data") or {}).get("path")
    if not recorded:
        return None, "The run does not say where its pack is: give it with --data."
    try:
        return open_pack(Path(recorded)), ""
    except (DataError, OSError):
        return None, f"The pack at {recorded} cannot be read: give it with --data."


def _head(run: RunFolder) -> str:
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
    data = str(_provenance(run).get("dataset") or (run.began.get("data") or {}).get("name") or "")
    return " · ".join(part for part in (shape, size, data, layers) if part)


def _tiles(run: RunFolder) -> str:
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
            beside = "" if untrained is None else f"untrained {_figure(untrained, form)}"
            tiles.append((label, _figure(value, form), beside))
    shown = "".join(
        f'<div><dt>{escape(label)}</dt><dd>{escape(value)}</dd><dd class="beside">{escape(beside)}</dd></div>'
        for label, value, beside in tiles
    )
    return f'<dl class="tiles">{shown}</dl>' if tiles else ""


def _curves(title: str, look: str, drawn: list[Curve]) -> str:
    shown = "".join(curve.html() for curve in drawn)
    body = f'<div class="{look}">{shown}</div>' if shown else '<p class="says">Nothing is on record yet.</p>'
    return f"<section><h2>{title}</h2>{body}</section>"


def _pictures(run: RunFolder, pack: Pack | None, without: str) -> str:
    title = "<h2>Patch tokens</h2>"
    if pack is None:
        return f'<section>{title}<p class="says">No pictures. {escape(without)}</p></section>'
    try:
        rows = pictures(run, pack)
    except CheckpointError as error:
        return f'<section>{title}<p class="says">No pictures: {escape(error.message)}.</p></section>'
    known = (run.began.get("data") or {}).get("fingerprint") or _provenance(run).get("dataset_fingerprint")
    other = "" if known in (None, pack.fingerprint) else " These images are not from the pack that the run began with."
    shown = "".join(
        f'<tr><th scope="row">{escape(name)}</th>'
        + "".join(f'<td><img src="{picture.uri}" alt="{escape(picture.alt)}"></td>' for picture in row)
        + "</tr>"
        for name, row in rows.items()
    )
    says = (
        "The first three principal components of each layer's patch tokens as red, green and blue, fitted to all of "
        "these images jointly: what the encoder takes for the same has the same colour. Smooth shades that are alike "
        "in every picture mean that tokens hold little but their position."
    )
    return (
        f'<section>{title}<p class="says">{says}{escape(other)}</p><div class="scroll"><table class="pictures">{shown}'
        "</table></div></section>"
    )


def _probes(run: RunFolder) -> str:
    probes = run.checkpoint.get("probes") or []
    if not probes:
        return ""
    head = "".join(f"<th>{name}</th>" for name in ("probe", "data", "value", "untrained twin", "how"))
    rows = "".join(
        f'<tr><th scope="row">{escape(str(probe.get("probe")))}</th><td>{escape(str(probe.get("dataset")))}</td>'
        f"<td>{_figure(probe.get('value'), '%')}</td><td>{_figure(probe.get('random_init'), '%')}</td>"
        f"<td>{escape(str(probe.get('detail', '')))}</td></tr>"
        for probe in probes
    )
    table = f'<table class="wide"><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table>'
    return f'<section><h2>Probes of the checkpoint</h2><div class="scroll">{table}</div></section>'


def _table(title: str, says: str, rows: dict[str, str]) -> str:
    if not rows:
        return ""
    shown = "".join(f"<div><dt>{escape(name)}</dt><dd>{escape(value)}</dd></div>" for name, value in rows.items())
    return f'<section><h2>{title}</h2><p class="says">{says}</p><dl class="pairs">{shown}</dl></section>'


def _rules() -> str:
    rows = "".join(
        f'<tr><th scope="row">{escape(rule.name.replace("_", " "))}</th>'
        f"<td>{rule.level}</td><td>{escape(rule.text)}</td></tr>"
        for rule in RULES
    )
    return (
        "<section><details><summary>The rules of the verdict, the gravest first</summary>"
        f'<table class="wide"><tbody>{rows}</tbody></table></details></section>'
    )


def _provenance(run: RunFolder) -> dict[str, Any]:
    return run.checkpoint.get("provenance") or run.began


def _cells(settings: dict[str, Any]) -> dict[str, str]:
    """Settings by dotted name, in words."""
    return {
        name: ", ".join(map(_word, value)) if isinstance(value, list) else _word(value)
        for name, value in flat(settings).items()
    }


def _word(value: Any) -> str:
    return f"{value:.6g}" if isinstance(value, float) else "-" if value is None else str(value)


def _figure(value: float | None, form: str) -> str:
    if value is None:
        return "-"
    return f"{100 * value:.1f} %" if form == "%" else f"{value:.3g}"


def _time(seconds: float | None) -> str:
    if not seconds:
        return ""
    hours, minutes = divmod(round(seconds / 60), 60)
    return f"in {hours} h {minutes:02d} min" if hours else f"in {minutes} min"
