"""``bootleg train-head``."""

from __future__ import annotations

import dataclasses
import json
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from bootleg_training.cli import FILE, FOLDER

if TYPE_CHECKING:
    from bootleg_training.heads.settings import HeadSettings
    from bootleg_training.heads.train import TrainedHead


@click.command("train-head")
@click.argument("checkpoint", type=FOLDER)
@click.option("--data", type=FOLDER, required=True, help="Folder with images/ and masks/ (8-bit label maps, PNG).")
@click.option("--val", type=FOLDER, required=True, help="The same, to choose by.")
@click.option("--test", type=FOLDER, required=True, help="The same, to score on, once.")
@click.option("--name", required=True, help="What the head is called, in the checkpoint and in the service.")
@click.option(
    "--kind",
    type=click.Choice(["linear", "layers"]),
    default="layers",
    show_default=True,
    help="linear: a linear map of each patch token; layers: light convolutions on the hidden layers.",
)
@click.option("--classes", type=FILE, help="Line k: `name` or `name R G B` of label k. [default: classes.txt by DATA]")
@click.option(
    "--ignore",
    type=click.IntRange(-1, 255),
    default=255,
    show_default=True,
    help="Mask label that does not count; -1: none.",
)
@click.option("--size", type=click.IntRange(8, 4096), help="Input side in pixels. [default: the checkpoint's]")
@click.option("--crops", type=click.IntRange(1), default=6000, show_default=True, help="To learn from, in all.")
@click.option("--iterations", type=click.IntRange(1), default=1500, show_default=True, help="Batches of 16 crops.")
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True)
@click.option("--flip/--no-flip", default=True, show_default=True, help="Mirror half of the random crops.")
@click.option(
    "--precision",
    type=click.Choice(["bf16", "fp32"]),
    default="bf16",
    show_default=True,
    help="Of the encoder's pass over the crops.",
)
@click.option("--dataset", help="What the data set is called in the record. [default: after DATA]")
@click.option("--device", default="auto", show_default=True, help="auto, cpu or cuda.")
@click.option("--replace", is_flag=True, help="Replace a head of the same name.")
def train_head(
    checkpoint: Path, data: Path, val: Path, test: Path, name: str, device: str, *, replace: bool, **options: Any
) -> None:
    """Train a segmentation head on a frozen encoder and put it into the checkpoint.

    The score is mean IoU on --test, beside the same head's on the untrained twin. Prints one JSON object.
    """
    from bootleg_training.checkpoint import write_head
    from bootleg_training.device import choose_device
    from bootleg_training.heads import train
    from bootleg_training.heads.settings import Parts

    target = choose_device(device)
    train.check_name(checkpoint, name, replace=replace)
    began = time.monotonic()
    result = train.train_head(checkpoint, Parts(data, val, test), name, _settings(options), target)
    write_head(checkpoint, name, result.config, result.trained.head.state_dict(), result.probe)
    click.echo(json.dumps(_record(name, result, round(time.monotonic() - began, 1))))
    _show(result)


def _settings(options: dict[str, Any]) -> HeadSettings:
    from bootleg_training.heads.settings import AUGMENT, FIT, HeadSettings

    return HeadSettings(
        kind=options["kind"],
        size=options["size"],
        ignore=None if options["ignore"] < 0 else options["ignore"],
        classes=options["classes"],
        dataset=options["dataset"],
        crops=options["crops"],
        augment=AUGMENT.model_copy(update={"flip": options["flip"]}),
        fit=dataclasses.replace(FIT, iterations=options["iterations"], seed=options["seed"]),
        precision=options["precision"],
    )


def _record(name: str, result: TrainedHead, seconds: float) -> dict[str, object]:
    """For a program."""
    both = zip(result.config.classes, result.trained.class_iou, result.twin.class_iou, strict=True)
    return {
        "head": name,
        "probe": result.probe.model_dump(mode="json"),
        "validation": {"value": result.trained.validation, "random_init": result.twin.validation},
        "classes": {entry.name: {"iou": iou, "random_init": twin} for entry, iou, twin in both},
        "seconds": seconds,
    }


def _show(result: TrainedHead) -> None:
    """For a person, beside the line for a program."""
    from rich.console import Console
    from rich.table import Table

    console = Console(stderr=True)
    if not console.is_terminal:
        return
    table = Table("class", "IoU", "untrained twin")
    for entry, *scores in zip(result.config.classes, result.trained.class_iou, result.twin.class_iou, strict=True):
        table.add_row(entry.name, *("none" if score is None else f"{score:.3f}" for score in scores))
    table.add_section()
    table.add_row("mean", f"{result.trained.miou:.3f}", f"{result.twin.miou:.3f}")
    console.print(table)
