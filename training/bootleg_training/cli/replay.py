"""``bootleg replay``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from bootleg_training.cli import FOLDER

if TYPE_CHECKING:
    from bootleg_training.engine.divergence import Finding


@click.command()
@click.argument("folder", type=FOLDER)
@click.option("--device", default="auto", show_default=True, help="auto, cpu or cuda.")
@click.option("--precision", type=click.Choice(["bf16", "fp32"]), help="Of the products. [default: the run's]")
def replay(folder: Path, device: str, precision: str | None) -> None:
    """Compute a diverged run's kept step again and name the module at fault.

    FOLDER is RUN/diverged. A step that is finite with --precision fp32 alone wants precision=fp32 in the run.
    """
    from bootleg_training.device import choose_device
    from bootleg_training.engine.divergence import replay as compute

    kept = folder if (folder / "step.json").is_file() else folder / "diverged"  # the run folder will do as well
    finding = compute(kept if kept.is_dir() else folder, choose_device(device), precision=precision)
    click.echo(sentence(finding, precision))


def sentence(finding: Finding, precision: str | None) -> str:
    """What was found, in words."""
    how = f" in {precision}" if precision else ""
    if finding.where == "forward":
        return f"{finding.fault} is the first module whose output is not finite{how}; the loss is {finding.loss:g}"
    if finding.where == "backward":
        return (
            f"the forward pass is finite{how}, with a loss of {finding.loss:g}; on the way back, the gradient of "
            f"{finding.fault} is the first that is not"
        )
    return f"everything is finite{how}, with a loss of {finding.loss:g}: this step does not fail here"
