"""``bootleg probe``."""

from __future__ import annotations

import json
from pathlib import Path

import click

from bootleg_training.cli import FOLDER


@click.command()
@click.argument("checkpoint", type=FOLDER)
@click.option("--train", "train_data", type=FOLDER, required=True, help="Labelled pack to learn from.")
@click.option("--test", "test_data", type=FOLDER, required=True, help="Labelled pack to score on.")
@click.option("--device", default="auto", show_default=True, help="auto, cpu or cuda.")
@click.option("--record", is_flag=True, help="Write the results into the checkpoint's config.json.")
def probe(checkpoint: Path, train_data: Path, test_data: Path, device: str, *, record: bool) -> None:
    """Score a frozen encoder by k-NN and a linear probe, beside its untrained twin."""
    from bootleg_training.data.pack import open_pack
    from bootleg_training.device import choose_device
    from bootleg_training.probes.probe import probe_checkpoint, record_probes

    results = probe_checkpoint(checkpoint, open_pack(train_data), open_pack(test_data), choose_device(device))
    for result in results:
        click.echo(json.dumps(result.model_dump(mode="json")))
    if record:
        record_probes(checkpoint, results)
