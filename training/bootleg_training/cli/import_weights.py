"""``bootleg import-weights``."""

from __future__ import annotations

from pathlib import Path

import click

from bootleg_training.cli import FILE, FOLDER
from bootleg_training.foreign.layouts import LAYOUTS


@click.command("import-weights")
@click.argument("file", type=FILE)
@click.option("--out", type=FOLDER, required=True, help="The checkpoint to create.")
@click.option("--layout", type=click.Choice(["auto", *LAYOUTS]), default="auto", show_default=True)
@click.option("--heads", type=click.IntRange(min=1), help="Attention heads. [default: as published, or 64 wide each]")
@click.option("--image-size", type=click.IntRange(8, 4096), help="Input side in pixels. [default: the file's]")
def import_weights(file: Path, out: Path, layout: str, heads: int | None, image_size: int | None) -> None:
    """Make a checkpoint of a ViT encoder that I-JEPA, MAE or DINOv2 trained."""
    from bootleg_training.foreign.checkpoint import import_weights as write

    read = write(file, out, layout=layout, heads=heads, image_size=image_size)
    for note in read.notes:
        click.echo(note, err=True)
    shape = read.config
    tokens = f"{shape.registers} registers" if shape.registers else "no registers"
    click.echo(
        f"{out}: {shape.label} at {shape.image_size} px, {shape.heads} heads, "
        f"{'CLS' if shape.cls_token else 'no CLS'}, {tokens}, {shape.positions} positions"
    )
