"""``bootleg prepare``."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import click

from bootleg_training.cli import FOLDER

if TYPE_CHECKING:
    from bootleg_training.data.pack import PackIndex

SHOWN = 10
"""Files named on the screen; pack.json names all."""


@click.command()
@click.argument("source")
@click.option("--out", type=FOLDER, required=True, help="The pack to create.")
@click.option("--size", type=click.IntRange(8, 1024), required=True, help="Image side in pixels.")
@click.option("--name", help="What the data set is called in reports. [default: the source's name]")
@click.option("--drop-duplicates", is_flag=True, help="Leave out all but the first of byte-identical files.")
@click.option(
    "--max-corrupt",
    type=click.FloatRange(0, 1),
    default=0.05,
    show_default=True,
    help="Fail when a larger share of the files cannot be decoded.",
)
def prepare(source: str, out: Path, size: int, name: str | None, *, drop_duplicates: bool, max_corrupt: float) -> None:
    """Verify, resize and pack images once, for training and probes.

    SOURCE is a folder of images, nested to any depth; tar archives in WebDataset's layout (one, a folder of them, or
    a quoted pattern such as 'shards/{000..127}.tar'); a .csv, .tsv, .txt or .parquet list with a column of paths; a
    Hugging Face data set saved to disk, or hf:NAME:SPLIT.
    """
    from bootleg_bundle.sources import open_source
    from bootleg_training.data.prepare import Options, refuse_existing, write_pack
    from bootleg_training.progress import track

    refuse_existing(out)
    options = Options(drop_duplicates=drop_duplicates, max_corrupt=max_corrupt)
    shown = partial(track, title="prepare")
    index = write_pack(open_source(source), out, size, name=name, options=options, progress=shown)
    _report(index, out)


def _report(index: PackIndex, out: Path) -> None:
    for file, reason in list(index.skipped.items())[:SHOWN]:
        click.echo(f"left out {file}: {reason}", err=True)
    for group in index.duplicates[:SHOWN]:
        more = f" and {len(group) - 3:,} more" if len(group) > 3 else ""
        click.echo(f"byte-identical: {', '.join(group[:3])}{more}", err=True)
    side, twins = index.preprocess.height, sum(len(group) - 1 for group in index.duplicates)
    left_out = len(index.skipped) + (twins if index.duplicates_dropped else 0)
    classes = f", {len(index.classes)} classes" if index.labels is not None else ", no labels"
    click.echo(f"{out}: {len(index.files):,} images of {side} x {side}{classes}; {left_out:,} left out")
    if twins:
        fate = "left out" if index.duplicates_dropped else "kept; --drop-duplicates leaves them out"
        click.echo(f"{twins:,} repeat another file byte for byte, in {len(index.duplicates):,} groups: {fate}")
    assert index.mean is not None
    assert index.std is not None
    mean, std = (", ".join(f"{number:.4f}" for number in three) for three in (index.mean, index.std))
    click.echo(f"channel mean {mean}; standard deviation {std} (of pixels / 255)")
    gpu, cpu = (index.presets[device] or "none" for device in ("cuda", "cpu"))
    click.echo(f"recommended preset: {gpu} with CUDA, {cpu} without")
