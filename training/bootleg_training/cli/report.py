"""``bootleg report``."""

from __future__ import annotations

from pathlib import Path

import click

from bootleg_training.cli import FOLDER


@click.command()
@click.argument("run", type=FOLDER)
@click.option("--out", type=click.Path(path_type=Path, dir_okay=False), help="[default: RUN/report.html]")
@click.option(
    "--data", type=FOLDER, help="Pack to take example images from. [default: the one that the run began with]"
)
def report(run: Path, out: Path | None, data: Path | None) -> None:
    """Write a run's curves, verdict and pictures as one HTML page.

    The run may still be going on.
    """
    from bootleg_training.track.report import write_report

    click.echo(write_report(run, out or run / "report.html", data))
