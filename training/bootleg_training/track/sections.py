"""The parts of a run's page below its head, each a string of HTML; empty where the run has nothing for it."""

from __future__ import annotations

from html import escape
from typing import TYPE_CHECKING, Any

from bootleg_bundle.errors import CheckpointError
from bootleg_training.compose import flat
from bootleg_training.health.rules import RULES
from bootleg_training.track.pictures import pictures
from bootleg_training.track.summary import figure, provenance

if TYPE_CHECKING:
    from bootleg_training.data.pack import Pack
    from bootleg_training.track.figure import Curve
    from bootleg_training.track.folder import RunFolder


def curves(title: str, look: str, drawn: list[Curve]) -> str:
    """A row of figures."""
    shown = "".join(curve.html() for curve in drawn)
    body = f'<div class="{look}">{shown}</div>' if shown else '<p class="says">Nothing is on record yet.</p>'
    return f"<section><h2>{title}</h2>{body}</section>"


def patch_tokens(run: RunFolder, pack: Pack | None, without: str) -> str:
    """Pictures of what the patch tokens see; or why there are none."""
    title = "<h2>Patch tokens</h2>"
    if pack is None:
        return f'<section>{title}<p class="says">No pictures. {escape(without)}</p></section>'
    try:
        rows = pictures(run, pack)
    except CheckpointError as error:
        return f'<section>{title}<p class="says">No pictures: {escape(error.message)}.</p></section>'
    known = (run.began.get("data") or {}).get("fingerprint") or provenance(run).get("dataset_fingerprint")
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


def probes(run: RunFolder) -> str:
    """The checkpoint's recorded probes; nothing where there are none."""
    probes = run.checkpoint.get("probes") or []
    if not probes:
        return ""
    head = "".join(f"<th>{name}</th>" for name in ("probe", "data", "value", "untrained twin", "how"))
    rows = "".join(
        f'<tr><th scope="row">{escape(str(probe.get("probe")))}</th><td>{escape(str(probe.get("dataset")))}</td>'
        f"<td>{figure(probe.get('value'), '%')}</td><td>{figure(probe.get('random_init'), '%')}</td>"
        f"<td>{escape(str(probe.get('detail', '')))}</td></tr>"
        for probe in probes
    )
    table = f'<table class="wide"><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table>'
    return f'<section><h2>Probes of the checkpoint</h2><div class="scroll">{table}</div></section>'


def table(title: str, says: str, rows: dict[str, str]) -> str:
    """Pairs of names and values; nothing where there are none."""
    if not rows:
        return ""
    shown = "".join(f"<div><dt>{escape(name)}</dt><dd>{escape(value)}</dd></div>" for name, value in rows.items())
    return f'<section><h2>{title}</h2><p class="says">{says}</p><dl class="pairs">{shown}</dl></section>'


def rules() -> str:
    """The rules of the verdict."""
    rows = "".join(
        f'<tr><th scope="row">{escape(rule.name.replace("_", " "))}</th>'
        f"<td>{rule.level}</td><td>{escape(rule.text)}</td></tr>"
        for rule in RULES
    )
    return (
        "<section><details><summary>The rules of the verdict, the gravest first</summary>"
        f'<table class="wide"><tbody>{rows}</tbody></table></details></section>'
    )


def cells(settings: dict[str, Any]) -> dict[str, str]:
    """Settings by dotted name, in words."""
    return {
        name: ", ".join(map(_word, value)) if isinstance(value, list) else _word(value)
        for name, value in flat(settings).items()
    }


def _word(value: Any) -> str:
    return f"{value:.6g}" if isinstance(value, float) else "-" if value is None else str(value)
