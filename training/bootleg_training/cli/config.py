"""``bootleg config``: what a run would be given, what could be given, and how two runs differ."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click
import yaml

from bootleg_bundle.errors import ConfigError
from bootleg_training.cli import FILE
from bootleg_training.compose import compose, flat, origins, read_yaml, validated
from bootleg_training.config import RunConfig
from bootleg_training.presets import PRESETS


@click.group()
def config() -> None:
    """Show, describe and compare the settings of runs."""


@config.command()
@click.option("--preset", type=click.Choice(list(PRESETS)), default="tiny-cpu", show_default=True)
@click.option("--config", "file", type=FILE, help="YAML settings.")
@click.option("--set", "settings", multiple=True, metavar="KEY=VALUE", help="One setting, such as optim.base_lr=2e-3.")
@click.option("--resolved/--no-resolved", default=True, help="Fill in what is derived. [default: filled in]")
@click.option("--origin", is_flag=True, help="Say where each value comes from.")
def show(preset: str, file: Path | None, settings: tuple[str, ...], *, resolved: bool, origin: bool) -> None:
    """Print the settings that `bootleg train` would use, as YAML that it takes."""
    composed = compose(preset, file, settings)
    shown = (composed.resolved() if resolved else composed).model_dump(mode="json")
    comments: dict[str, str] = {}
    if origin:
        before = flat(composed.model_dump(mode="json"))
        comments = origins(preset, file, settings)
        comments |= {name: "derived" for name, value in flat(shown).items() if before[name] != value}
    click.echo("\n".join(_lines(shown, comments)))


@config.command()
def schema() -> None:
    """Print the JSON schema of the settings."""
    click.echo(json.dumps(RunConfig.model_json_schema(), indent=2))


@config.command()
@click.argument("a")
@click.argument("b")
def diff(a: str, b: str) -> None:
    """Print the settings that differ; exit with 1 if any do.

    A and B are run folders, checkpoints, settings files (YAML or JSON, over the defaults) or names of presets; what
    exists in the file system is taken for that. Derived values are filled in on both sides.
    """
    one, other = (flat(_read(name).resolved().model_dump(mode="json")) for name in (a, b))
    different = [name for name in one if one[name] != other[name]]
    for name in different:
        click.echo(f"{name}: {_flow(one[name])} -> {_flow(other[name])}")
    if different:
        raise SystemExit(1)


def _read(name: str) -> RunConfig:
    """Settings of a run, a checkpoint, a file or a preset."""
    path = Path(name)
    file = path / "config.json" if path.is_dir() else path
    if not file.is_file():
        if name in PRESETS and not path.exists():
            return PRESETS[name]
        raise ConfigError(f"{name} is no run, checkpoint, settings file or preset ({', '.join(PRESETS)})")
    loaded = read_yaml(file.read_bytes(), str(file))  # JSON is YAML
    if not isinstance(loaded, dict):
        raise ConfigError(f"{file}: a mapping of settings is expected")
    fields = loaded["run"] if "provenance" in loaded and "run" in loaded else loaded  # a checkpoint's holds the run's
    try:
        return validated(fields)
    except ConfigError as error:
        raise ConfigError(f"{file}: {error.message}") from error


def _lines(settings: dict[str, Any], comments: dict[str, str], prefix: str = "") -> list[str]:
    """YAML in blocks, lists in one line, each value with its comment."""
    indent = "  " * prefix.count(".")
    lines: list[str] = []
    for key, value in settings.items():
        if isinstance(value, dict):
            lines += [f"{indent}{key}:", *_lines(value, comments, f"{prefix}{key}.")]
        else:
            comment = comments.get(prefix + key)
            lines.append(f"{indent}{key}: {_flow(value)}" + (f"  # {comment}" if comment else ""))
    return lines


def _flow(value: Any) -> str:
    text: str = yaml.safe_dump(value, default_flow_style=True, width=float("inf"), allow_unicode=True)
    return text.removesuffix("...\n").strip()
