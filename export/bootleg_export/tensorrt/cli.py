"""``bootleg engine``."""

from __future__ import annotations

import logging
from pathlib import Path

import click

from bootleg_bundle.engine_cache import default_engine_cache
from bootleg_bundle.engine_key import BATCHES, parse_batches


@click.command(context_settings={"show_default": True})
@click.argument("bundle", type=click.Path(path_type=Path, file_okay=False))
@click.option("--device", type=click.IntRange(0), default=0, help="The GPU's number.")
@click.option("--precision", default="auto", help="One of the bundle's graphs; auto: fp16 if there, else fp32.")
@click.option("--batches", default=",".join(map(str, BATCHES)), help="Batch buckets: the largest sizes, ascending.")
@click.option(
    "--cache",
    type=click.Path(path_type=Path, file_okay=False),
    envvar="BOOTLEG_ENGINE_CACHE",
    show_envvar=True,
    default=default_engine_cache,
    show_default="~/.cache/bootleg-vision/engines",
    help="Where engines lie.",
)
def engine(bundle: Path, device: int, precision: str, batches: str, cache: Path) -> None:
    """Build a TensorRT engine of a bundle, on the GPU that will run it."""
    from bootleg_bundle import open_bundle
    from bootleg_export.tensorrt.make_engine import make_engine

    logging.basicConfig(level="INFO", format="%(message)s")
    buckets = parse_batches(batches)
    opened = open_bundle(bundle)
    made = make_engine(opened, cache, precision=precision, batches=buckets, ordinal=device)
    key = made.record.key
    how = f"built in {made.record.build_seconds} s" if made.built else "was there already"
    click.echo(f"{made.path}: {how}, {made.record.bytes / 1e6:.1f} MB")
    click.echo(f"  {key.precision} on {key.gpu} (sm {key.compute_capability}), TensorRT {key.tensorrt}")
    for batch, error in made.record.golden.items():
        click.echo(f"  batch {batch}: golden relative error {error:.1e}")
