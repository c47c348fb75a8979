"""``bootleg export`` and ``verify``."""

from __future__ import annotations

import logging
import sys
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from bootleg_bundle.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from bootleg_export.build import Built
    from bootleg_export.check import Check

Folder = click.Path(path_type=Path, file_okay=False)
IGNORE = click.option(
    "--ignore",
    type=click.IntRange(-1, 255),
    default=255,
    show_default=True,
    help="Label that does not count; -1: none.",
)


@click.command()
@click.argument("checkpoint", type=Folder)
@click.option("--out", type=Folder, required=True, help="The bundle to create.")
@click.option("--name", help="The model's name in the service. [default: the bundle's directory]")
@click.option("--precision", default="", metavar="LIST", help="Graphs beside fp32: any of fp16,bf16,int8.")
@click.option("--calibration", metavar="SOURCE", help="A pack or a source of images; int8 takes its ranges from it.")
@click.option(
    "--tasks", nargs=2, metavar="TRAIN TEST", help="Labelled packs or sources: what each precision costs on them."
)
@click.option("--scenes", type=Folder, help="images/ and masks/: what each precision costs the heads on them.")
@IGNORE
@click.option("--int8-attention", is_flag=True, help="In int8, the two products of attention too.")
@click.option("--size", "sizes", default="", metavar="LIST", help="Input sides in pixels, a bundle for each.")
@click.option("--external-data", is_flag=True, help="Weights in a file beside each graph, for models over 2 GiB.")
def export(
    checkpoint: Path, out: Path, name: str | None, precision: str, sizes: str, *, ignore: int, **options: Any
) -> None:
    """Turn a checkpoint into a verified bundle.

    A precision that does not pass its gates is left out, and the exit code is 1. With several sizes the bundles are
    OUT-96px, OUT-128px and so on, each with an embedding space of its own.
    """
    from bootleg_export.build import build_bundle
    from bootleg_export.options import ExportOptions, parse_sizes
    from bootleg_export.precisions import parse_precisions

    # It lists the operators of torchvision that it skips when torchvision is absent.
    logging.getLogger("torch.onnx._internal.exporter._registration").setLevel(logging.ERROR)

    sides = parse_sizes(sizes)
    complete = True
    for side in sides or (None,):
        suffix = f"-{side}px" if len(sides) > 1 else ""
        place = out.with_name(out.name + suffix)
        chosen = ExportOptions(parse_precisions(precision), size=side, ignore=_label(ignore), **options)
        built = build_bundle(checkpoint, place, name=(name or out.name) + suffix, options=chosen, say=_progress)
        _show_bundle(place, built)
        complete = complete and not built.refused
    if not complete:
        raise SystemExit(1)


@click.command()
@click.argument("bundle", type=Folder)
@click.option("--data", metavar="SOURCE", help="A labelled pack or source: what each precision costs on it.")
@click.option("--test", metavar="SOURCE", help="Score on these labelled images. [default: a fifth of --data]")
@click.option("--scenes", type=Folder, help="images/ and masks/: what each precision costs the heads on them.")
@IGNORE
def verify(bundle: Path, data: str | None, test: str | None, scenes: Path | None, ignore: int) -> None:
    """Check a bundle: hashes, golden outputs, precisions against fp32, and that batches change nothing."""
    from bootleg_export.verify import verify_bundle

    if test is not None and data is None:
        raise ConfigError("--test needs --data, the images to learn from")
    checks = [verify_bundle(bundle), *_on_labelled(bundle, data, test, scenes, _label(ignore))]
    if not _show_checks(chain.from_iterable(checks)):
        raise SystemExit(1)


def _label(ignore: int) -> int | None:
    return None if ignore < 0 else ignore


def _on_labelled(
    bundle: Path, data: str | None, test: str | None, scenes: Path | None, ignore: int | None
) -> list[Iterator[Check]]:
    """Checks on labelled images, whose packages are not those of the command.

    Raises:
        ConfigError: one of them is not installed.
    """
    if data is None and scenes is None:
        return []
    try:
        from bootleg_export.verify_tasks import verify_masks, verify_tasks
    except ModuleNotFoundError as error:
        option = "--scenes" if data is None else "--data"
        line = "pip install 'bootleg-vision[training]'"
        raise ConfigError(f"{option} needs {error.name}, which is not installed; install it with: {line}") from error
    found = []
    if data is not None:
        found.append(verify_tasks(bundle, data, test))
    if scenes is not None:
        found.append(verify_masks(bundle, scenes, ignore=ignore))
    return found


def _progress(line: str) -> None:
    click.echo(line, err=True)


def _show_bundle(place: Path, built: Built) -> None:
    manifest = built.bundle.manifest
    size = sum(entry.bytes for entry in manifest.files.values())
    click.echo(f"{place}: {manifest.name}, {size / 1e6:.1f} MB, space {manifest.embedding_space}")
    for row in manifest.parity:
        click.echo(
            f"  {row.precision} {row.output}: relative Frobenius {row.relative_frobenius:.1e}, "
            f"smallest cosine {row.cosine_min:.7f}"
        )
    for task in manifest.tasks:
        click.echo(f"  {task.precision} {task.task} on {task.dataset}: {task.value:.4f}, fp32 {task.fp32:.4f}")
    for precision, fault in built.refused.items():
        click.echo(f"{precision} is not in the bundle: {fault}", err=True)


def _show_checks(checks: Iterable[Check]) -> bool:
    """Print each check when it is done: a table on a terminal, lines elsewhere; whether all passed."""
    if sys.stdout.isatty():
        try:
            from bootleg_export.check_table import show_table
        except ModuleNotFoundError:  # rich belongs to the training extra
            pass
        else:
            return show_table(checks)
    passed = True
    for check in checks:
        click.echo(f"{'ok  ' if check.passed else 'FAIL'} {check.name}: {check.detail}")
        passed = passed and check.passed
    return passed
