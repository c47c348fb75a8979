"""``bootleg train``."""

from __future__ import annotations

from pathlib import Path

import click

from bootleg_training.cli import FILE, FOLDER
from bootleg_training.compose import compose
from bootleg_training.config import RunConfig
from bootleg_training.presets import PRESETS


@click.command()
@click.option("--data", required=True, help="A pack made by `bootleg prepare`, or any source that it takes.")
@click.option("--out", type=FOLDER, help="Run folder; a run found there is resumed.")
@click.option("--preset", type=click.Choice(list(PRESETS)), default="tiny-cpu", show_default=True)
@click.option("--config", "file", type=FILE, help="YAML settings.")
@click.option("--set", "settings", multiple=True, metavar="KEY=VALUE", help="One setting, such as optim.base_lr=2e-3.")
@click.option("--init", type=FOLDER, help="Checkpoint to go on from, for continued pretraining.")
@click.option(
    "--allow",
    multiple=True,
    type=click.Choice(list(RunConfig.model_fields)),
    metavar="SETTING",
    help="Let a resumed run, or --init, differ in encoder, images, ...",
)
@click.option("--plan", is_flag=True, help="Only a short trial: memory, throughput, hours of the whole run.")
@click.option("--device", default="auto", show_default=True, help="auto, cpu or cuda.")
@click.option(
    "--reading",
    type=click.Choice(["auto", "resident", "mapped", "decode"]),
    default="auto",
    show_default=True,
    help="Images on the device, as mapped pages, or decoded when wanted.",
)
@click.option("--shard/--no-shard", default=None, help="FSDP2 or DDP under torchrun. [default: by size]")
@click.option(
    "--track", multiple=True, type=click.Choice(["tensorboard", "wandb", "mlflow"]), help="Log there too, beside JSONL."
)
def train(  # noqa: PLR0913  # one parameter an option
    *,
    data: str,
    out: Path | None,
    preset: str,
    file: Path | None,
    settings: tuple[str, ...],
    init: Path | None,
    allow: tuple[str, ...],
    plan: bool,
    device: str,
    reading: str,
    shard: bool | None,
    track: tuple[str, ...],
) -> None:
    """Pretrain an encoder on unlabelled images."""
    config = compose(preset, file, settings, base=None if init is None else _from_checkpoint(init, preset))
    from bootleg_training.data.decode import open_data
    from bootleg_training.device import choose_device
    from bootleg_training.engine.loop import Options
    from bootleg_training.engine.loop import train as run
    from bootleg_training.engine.stop import INTERRUPTED, Interrupted
    from bootleg_training.engine.world import leave, open_world

    if out is None and not plan:
        raise click.UsageError("Missing option '--out'.")
    try:
        with open_world(choose_device(device)) as (world, place):
            pack = open_data(data, config.encoder.image_size)
            if plan:
                from bootleg_training.engine.fit import plan as trial

                end = trial(config.resolved(), pack, place, world=world).lines()
            else:
                assert out is not None
                options = Options(
                    data_path=Path(data),
                    mode=reading,  # type: ignore[arg-type]  # click checked it
                    sharded=shard,
                    trackers=track,
                    init=init,
                    allow=frozenset(allow),
                )
                end = [f"checkpoint: {run(config, pack, out, device=place, world=world, options=options)}"]
    except Interrupted as stopped:
        click.echo(str(stopped), err=True)
        leave(world, INTERRUPTED)
    if world.leads:
        click.echo("\n".join(end))
    leave(world)


def _from_checkpoint(init: Path, preset: str) -> RunConfig:
    """The preset with the checkpoint's encoder and the gentler schedule of continued pretraining."""
    from bootleg_training.checkpoint import parse_config
    from bootleg_training.engine.initial import continued

    return continued(PRESETS[preset].model_copy(update={"encoder": parse_config(init).encoder}))
