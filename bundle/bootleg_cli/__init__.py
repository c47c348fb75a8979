"""The ``bootleg`` command: a table of subcommands, each loaded when it is called.

A room that is not installed costs nothing until its command is used, and then answers with the line
that installs it. ``bootleg --help`` imports no room.
"""

from __future__ import annotations

import importlib
from typing import NamedTuple

import click

from bootleg_bundle.errors import BootlegError


class Command(NamedTuple):
    """Where a subcommand lives, what installs it, and its line in the help."""

    target: str
    extra: str
    summary: str


COMMANDS = {
    "bundle": Command("bootleg_bundle.cli:bundle", "hub", "Push, pull and show bundles; print the manifest's schema."),
    "config": Command(
        "bootleg_training.cli.config:config", "training", "Show, describe and compare the settings of runs."
    ),
    "doctor": Command(
        "bootleg_training.cli.doctor:doctor", "training", "Check versions, devices, decode speed and disk space."
    ),
    "embed": Command(
        "bootleg_embed.cli:embed", "cpu", "Embed a whole data set into one file, resumable at any moment."
    ),
    "engine": Command(
        "bootleg_export.tensorrt.cli:engine",
        "tensorrt",
        "Build a TensorRT engine of a bundle, on the GPU that will run it.",
    ),
    "export": Command("bootleg_export.cli:export", "export,cpu", "Turn a checkpoint into a verified bundle."),
    "import-weights": Command(
        "bootleg_training.cli.import_weights:import_weights",
        "training",
        "Make a checkpoint of a ViT encoder that I-JEPA, MAE or DINOv2 trained.",
    ),
    "key": Command("bootleg_service.cli:key", "cpu", "Make an API key for the service."),
    "prepare": Command(
        "bootleg_training.cli.prepare:prepare",
        "training",
        "Verify, resize and pack images once, for training and probes.",
    ),
    "probe": Command(
        "bootleg_training.cli.probe:probe",
        "training",
        "Score a frozen encoder by k-NN and trained probes, beside its untrained twin.",
    ),
    "replay": Command(
        "bootleg_training.cli.replay:replay",
        "training",
        "Compute a diverged run's kept step again and name the module at fault.",
    ),
    "report": Command(
        "bootleg_training.cli.report:report", "training", "Write a run's curves, verdict and pictures as one HTML page."
    ),
    "serve": Command("bootleg_service.cli:serve", "cpu", "Serve a bundle over HTTP, or several."),
    "train": Command("bootleg_training.cli.train:train", "training", "Pretrain an encoder on unlabelled images."),
    "train-head": Command(
        "bootleg_training.cli.train_head:train_head",
        "training",
        "Train a segmentation head on a frozen encoder and put it into the checkpoint.",
    ),
    "verify": Command(
        "bootleg_export.cli:verify",
        "cpu",
        "Check a bundle: hashes, golden outputs, precisions against fp32, and that batches change nothing.",
    ),
}

_ASKED = "bootleg_cli.asked"

OURS = (
    "bootleg_bundle",
    "bootleg_cli",
    "bootleg_client",
    "bootleg_embed",
    "bootleg_export",
    "bootleg_service",
    "bootleg_training",
)


class LazyGroup(click.Group):
    """A click group that knows its commands' names and summaries without importing them."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002
        """Names, sorted."""
        return sorted(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import one command."""
        entry = COMMANDS.get(cmd_name)
        if entry is None:
            return None
        ctx.meta[_ASKED] = cmd_name
        module, _, attribute = entry.target.partition(":")
        command: click.Command = getattr(importlib.import_module(module), attribute)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002
        """Write the table of commands."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, COMMANDS[name].summary) for name in sorted(COMMANDS)])

    def invoke(self, ctx: click.Context) -> object:
        """Run a command; our own errors and a missing extra become one line and exit code 2."""
        try:
            return super().invoke(ctx)
        except BootlegError as error:
            raise _Refused(error.message) from error
        except OSError as error:
            raise _Refused(f"{error.strerror or error}: {error.filename or ''}".rstrip(": ")) from error
        except ModuleNotFoundError as error:
            asked = ctx.meta.get(_ASKED)
            if asked is None or error.name is None or not _is_absent(error.name, COMMANDS[asked]):
                raise
            line = f"pip install 'bootleg-vision[{COMMANDS[asked].extra}]'"
            raise _Refused(
                f"`bootleg {asked}` needs {error.name}, which is not installed; install it with: {line}"
            ) from error


def _is_absent(module: str, command: Command) -> bool:
    """Whether a missing module means "not installed": somebody else's, or the command's whole room."""
    target = command.target.partition(":")[0]
    return module.split(".", maxsplit=1)[0] not in OURS or module in {target, target.split(".")[0]}


class _Refused(click.ClickException):
    exit_code = 2


@click.group(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="bootleg-vision", prog_name="bootleg")
def main() -> None:
    """From a folder of unlabelled images to a production embedding service."""
