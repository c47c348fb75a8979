"""``bootleg export`` and ``verify``."""

from __future__ import annotations

import logging
from pathlib import Path

import click

Folder = click.Path(path_type=Path, file_okay=False)


@click.command()
@click.argument("checkpoint", type=Folder)
@click.option("--out", type=Folder, required=True, help="The bundle to create.")
@click.option("--name", help="The model's name in the service. [default: the bundle's directory]")
def export(checkpoint: Path, out: Path, name: str | None) -> None:
    """Turn a checkpoint into a verified bundle."""
    from bootleg_export.build import build_bundle

    # It lists the operators of torchvision that it skips when torchvision is absent.
    logging.getLogger("torch.onnx._internal.exporter._registration").setLevel(logging.ERROR)

    bundle = build_bundle(checkpoint, out, name=name or out.name)
    size = sum(entry.bytes for entry in bundle.manifest.files.values())
    click.echo(f"{out}: {bundle.manifest.name}, {size / 1e6:.1f} MB, space {bundle.manifest.embedding_space}")
    for row in bundle.manifest.parity:
        click.echo(f"  {row.precision} {row.output}: relative Frobenius {row.relative_frobenius:.1e}")


@click.command()
@click.argument("bundle", type=Folder)
def verify(bundle: Path) -> None:
    """Check a bundle: hashes, golden outputs, and that batches change nothing."""
    from bootleg_export.verify import verify_bundle

    checks = verify_bundle(bundle)
    for check in checks:
        click.echo(f"{'ok  ' if check.passed else 'FAIL'} {check.name}: {check.detail}")
    if not all(check.passed for check in checks):
        raise SystemExit(1)
