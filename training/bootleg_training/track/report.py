"""The page of a run: one HTML file that needs nothing else, on screen and on paper.

``bootleg report`` calls :func:`write_report`. Whatever was read from a file is escaped, and the page
forbids itself to load anything.
"""

from __future__ import annotations

from html import escape
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING

from bootleg_bundle.errors import DataError
from bootleg_training.data.pack import open_pack
from bootleg_training.track.curves import learning, machinery
from bootleg_training.track.folder import read_run
from bootleg_training.track.sections import cells, curves, patch_tokens, probes, rules, table
from bootleg_training.track.summary import head, provenance, tiles

if TYPE_CHECKING:
    from bootleg_training.data.pack import Pack
    from bootleg_training.track.folder import RunFolder

POLICY = "default-src 'none'; style-src 'unsafe-inline'; img-src data:"


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
            head(run),
            tiles(run),
            curves("Is it learning?", "grid", learning(run)),
            curves("Schedule and machine", "grid small", machinery(run)),
            patch_tokens(run, pack, without),
            probes(run),
            table("Settings", "Resolved: nothing is left to derive.", cells(run.config)),
            table("Provenance", "What it was made with.", cells(provenance(run))),
            rules(),
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
