"""``bootleg train``."""

from __future__ import annotations

from pathlib import Path

import click

from bootleg_training.cli import FILE, FOLDER
from bootleg_training.compose import compose
from bootleg_training.presets import PRESETS


@click.command()
@click.option("--data", type=FOLDER, required=True, help="A pack made by `bootleg prepare`.")
@click.option("--out", type=FOLDER, required=True, help="Run folder; a run found there is resumed.")
@click.option("--preset", type=click.Choice(list(PRESETS)), default="tiny-cpu", show_default=True)
@click.option("--config", "file", type=FILE, help="YAML settings.")
@click.option("--set", "settings", multiple=True, metavar="KEY=VALUE", help="One setting, such as optim.base_lr=2e-3.")
@click.option("--device", default="auto", show_default=True, help="auto, cpu or cuda.")
def train(data: Path, out: Path, preset: str, file: Path | None, settings: tuple[str, ...], device: str) -> None:
    """Pretrain an encoder on unlabelled images."""
    config = compose(preset, file, settings)
    from bootleg_training.data.pack import open_pack
    from bootleg_training.device import choose_device
    from bootleg_training.engine.loop import INTERRUPTED, Interrupted
    from bootleg_training.engine.loop import train as run

    try:
        target = run(config, open_pack(data), out, device=choose_device(device))
    except Interrupted as stopped:
        click.echo(str(stopped), err=True)
        raise SystemExit(INTERRUPTED) from None
    click.echo(f"checkpoint: {target}")
