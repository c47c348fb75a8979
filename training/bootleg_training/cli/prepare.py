"""``bootleg prepare``."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import click

from bootleg_training.cli import FOLDER


@click.command()
@click.argument("folder", type=FOLDER)
@click.option("--out", type=FOLDER, required=True, help="The pack to create.")
@click.option("--size", type=click.IntRange(8, 1024), required=True, help="Image side in pixels.")
@click.option("--name", help="What the data set is called in reports. [default: the folder's name]")
def prepare(folder: Path, out: Path, size: int, name: str | None) -> None:
    """Decode and resize a folder of images once, for training and probes."""
    from bootleg_training.data.pack import write_pack
    from bootleg_training.progress import track

    pack, skipped = write_pack(folder, out, size, name=name, progress=partial(track, title="prepare"))
    for file, reason in list(skipped.items())[:10]:
        click.echo(f"left out {file}: {reason}", err=True)
    classes = f", {len(pack.classes)} classes" if pack.labels is not None else ", no labels"
    click.echo(f"{out}: {len(pack.images):,} images of {size} x {size}{classes}; {len(skipped):,} left out")
