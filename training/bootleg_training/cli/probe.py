"""``bootleg probe``."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from bootleg_bundle.errors import ConfigError
from bootleg_training.cli import FOLDER

if TYPE_CHECKING:
    from bootleg_bundle.manifest import Probe
    from bootleg_training.probes.encoders import Comparison

KINDS = ("knn", "linear", "linear-last4", "attentive", "pixel-head")
WHICH = ("teacher", "student")
SEGMENTATION = ("knn", "linear", "pixel-head")


def _several(ctx: click.Context, param: click.Parameter, value: str) -> tuple[str, ...]:  # noqa: ARG001
    """Words of a closed list, separated by commas."""
    known = KINDS if param.name == "kind" else WHICH
    words = tuple(dict.fromkeys(word.strip() for word in value.split(",") if word.strip()))
    unknown = [word for word in words if word not in known]
    if unknown or not words:
        raise click.BadParameter(f"{unknown[0] if unknown else value!r}: name some of {', '.join(known)}")
    return words


@click.command()
@click.argument("checkpoint", type=FOLDER)
@click.option("--train", type=FOLDER, help="Labelled pack to learn from and to choose hyperparameters on.")
@click.option("--test", type=FOLDER, help="Labelled pack to score on, read once.")
@click.option("--segmentation-train", type=FOLDER, help="Folder with images/ and masks/ (8-bit label maps, PNG).")
@click.option("--segmentation-test", type=FOLDER, help="The same, to score on.")
@click.option(
    "--ignore-label",
    type=click.IntRange(-1, 255),
    default=255,
    show_default=True,
    help="Mask label that does not count; -1: none.",
)
@click.option(
    "--kind",
    callback=_several,
    default="knn,linear",
    show_default=True,
    help=f"Some of {', '.join(KINDS)}. The last is for segmentation alone, the two before it for packs.",
)
@click.option("--which", callback=_several, default="teacher", show_default=True, help="teacher,student: both.")
@click.option("--layers", is_flag=True, help="Also every block, by k-NN and linear: which layer should I use?")
@click.option(
    "--precision", type=click.Choice(["bf16", "fp32"]), default="bf16", show_default=True, help="Of the encoder."
)
@click.option("--cache", type=FOLDER, help="Keep features here, for the next time.")
@click.option("--device", default="auto", show_default=True, help="auto, cpu or cuda.")
@click.option("--record", is_flag=True, help="Write the results into the checkpoint's config.json.")
def probe(checkpoint: Path, device: str, *, record: bool, **options: Any) -> None:
    """Score a frozen encoder by k-NN and trained probes, beside its untrained twin.

    Prints one JSON object a line. Give --train and --test, or --segmentation-train and --segmentation-test, or all.
    """
    _check(options)
    from bootleg_training.device import choose_device
    from bootleg_training.probes.encoders import Comparison
    from bootleg_training.probes.probe import record_probes

    target = choose_device(device)
    comparison = Comparison(options["which"], options["precision"], options["cache"])
    results: list[Probe] = []
    if options["train"]:
        results += _classification(checkpoint, target, options, comparison)
    if options["segmentation_train"]:
        results += _segmentation(checkpoint, target, options, comparison)
    for result in results:
        click.echo(json.dumps(result.model_dump(mode="json")))
    _show_table(results)
    if record:
        record_probes(checkpoint, results)


def _check(options: dict[str, Any]) -> None:
    for one, other in (("train", "test"), ("segmentation_train", "segmentation_test")):
        if (options[one] is None) != (options[other] is None):
            raise ConfigError(f"--{one.replace('_', '-')} and --{other.replace('_', '-')} are given together")
    if not options["train"] and not options["segmentation_train"]:
        raise ConfigError("nothing to probe on: give --train and --test, or --segmentation-train and -test")
    usable = {*(KINDS[:4] if options["train"] else ()), *(SEGMENTATION if options["segmentation_train"] else ())}
    for kind in options["kind"]:
        if kind not in usable:
            needed = "--segmentation-train" if kind == "pixel-head" else "--train"
            raise ConfigError(f"--kind {kind} needs {needed}")
    if options["layers"] and not options["train"]:
        raise ConfigError("--layers needs --train")


def _classification(checkpoint: Path, device: Any, options: dict[str, Any], comparison: Comparison) -> list[Probe]:
    from bootleg_training.data.pack import open_pack
    from bootleg_training.probes.probe import probe_checkpoint

    train, test = open_pack(options["train"]), open_pack(options["test"])
    if train.fingerprint == test.fingerprint:
        _warn("--train and --test hold the same images: these scores say how well they are remembered")
    kinds = [kind for kind in options["kind"] if kind in KINDS[:4]]
    return probe_checkpoint(
        checkpoint, train, test, device, kinds=kinds, layers=options["layers"], comparison=comparison
    )


def _segmentation(checkpoint: Path, device: Any, options: dict[str, Any], comparison: Comparison) -> list[Probe]:
    from bootleg_training.probes.segment import SegmentationSettings, segment_checkpoint

    train, test = options["segmentation_train"], options["segmentation_test"]
    if train.resolve() == test.resolve():
        _warn("--segmentation-train and --segmentation-test are the same folder: nothing is tested")
    heads = [kind for kind in options["kind"] if kind in SEGMENTATION]
    ignore = None if options["ignore_label"] < 0 else options["ignore_label"]
    settings = SegmentationSettings(heads=heads, ignore=ignore)
    return segment_checkpoint(checkpoint, train, test, device, settings, comparison=comparison)


def _warn(line: str) -> None:
    click.echo(f"warning: {line}", err=True)


def _show_table(results: list[Probe]) -> None:
    """For a person, beside the lines for a program."""
    from rich.console import Console
    from rich.table import Table

    console = Console(stderr=True)
    if not console.is_terminal:
        return
    table = Table("probe", "data", "metric", "value", "untrained twin", "protocol")
    for result in results:
        twin = "" if result.random_init is None else f"{result.random_init:.4f}"
        table.add_row(result.probe, result.dataset, result.metric, f"{result.value:.4f}", twin, result.detail)
    console.print(table)
