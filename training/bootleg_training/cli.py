"""``bootleg prepare``, ``train`` and ``probe``. Loaded by the front door when one of them is called."""

from __future__ import annotations

import difflib
import json
from functools import partial
from pathlib import Path
from typing import Any

import click
import yaml
from pydantic import ValidationError

from bootleg_bundle.errors import ConfigError
from bootleg_training.config import RunConfig
from bootleg_training.presets import PRESETS

Folder = click.Path(path_type=Path, file_okay=False)


@click.command()
@click.argument("folder", type=Folder)
@click.option("--out", type=Folder, required=True, help="The pack to create.")
@click.option("--size", type=click.IntRange(8, 1024), required=True, help="Image side in pixels.")
@click.option("--name", help="What the data set is called in reports. [default: the folder's name]")
def prepare(folder: Path, out: Path, size: int, name: str | None) -> None:
    """Decode and resize a folder of images once, for training and probes."""
    from bootleg_training.pack import write_pack
    from bootleg_training.progress import track

    pack, skipped = write_pack(folder, out, size, name=name, progress=partial(track, title="prepare"))
    for file, reason in list(skipped.items())[:10]:
        click.echo(f"left out {file}: {reason}", err=True)
    classes = f", {len(pack.classes)} classes" if pack.labels is not None else ", no labels"
    click.echo(f"{out}: {len(pack.images):,} images of {size} x {size}{classes}; {len(skipped):,} left out")


@click.command()
@click.option("--data", type=Folder, required=True, help="A pack made by `bootleg prepare`.")
@click.option("--out", type=Folder, required=True, help="Run folder; a run found there is resumed.")
@click.option("--preset", type=click.Choice(list(PRESETS)), default="tiny-cpu", show_default=True)
@click.option("--config", "file", type=click.Path(path_type=Path, dir_okay=False, exists=True), help="YAML settings.")
@click.option("--set", "settings", multiple=True, metavar="KEY=VALUE", help="One setting, such as optim.base_lr=2e-3.")
@click.option("--device", default="auto", show_default=True, help="auto, cpu or cuda.")
def train(data: Path, out: Path, preset: str, file: Path | None, settings: tuple[str, ...], device: str) -> None:
    """Pretrain an encoder on unlabelled images."""
    config = compose(preset, file, settings)
    from bootleg_training.device import choose_device
    from bootleg_training.loop import INTERRUPTED, Interrupted
    from bootleg_training.loop import train as run
    from bootleg_training.pack import open_pack

    try:
        target = run(config, open_pack(data), out, device=choose_device(device))
    except Interrupted as stopped:
        click.echo(str(stopped), err=True)
        raise SystemExit(INTERRUPTED) from None
    click.echo(f"checkpoint: {target}")


@click.command()
@click.argument("checkpoint", type=Folder)
@click.option("--train", "train_data", type=Folder, required=True, help="Labelled pack to learn from.")
@click.option("--test", "test_data", type=Folder, required=True, help="Labelled pack to score on.")
@click.option("--device", default="auto", show_default=True, help="auto, cpu or cuda.")
@click.option("--record", is_flag=True, help="Write the results into the checkpoint's config.json.")
def probe(checkpoint: Path, train_data: Path, test_data: Path, device: str, *, record: bool) -> None:
    """Score a frozen encoder by k-NN and a linear probe, beside its untrained twin."""
    from bootleg_training.device import choose_device
    from bootleg_training.pack import open_pack
    from bootleg_training.probe import probe_checkpoint, record_probes

    results = probe_checkpoint(checkpoint, open_pack(train_data), open_pack(test_data), choose_device(device))
    for result in results:
        click.echo(json.dumps(result.model_dump(mode="json")))
    if record:
        record_probes(checkpoint, results)


def compose(preset: str, file: Path | None, settings: tuple[str, ...]) -> RunConfig:
    """Preset, then YAML file, then ``key=value`` settings, validated together.

    Raises:
        ConfigError: names the key, the value and what was expected.
    """
    fields: dict[str, Any] = PRESETS[preset].model_dump(mode="json")
    if file is not None:
        loaded = _yaml(file.read_bytes(), str(file))
        if not isinstance(loaded, dict):
            raise ConfigError(f"{file}: a mapping of settings is expected")
        _merge(fields, loaded)
    for setting in settings:
        key, equals, value = setting.partition("=")
        if not equals or not key:
            raise ConfigError(f"--set {setting}: use KEY=VALUE")
        _merge(fields, _nested(key.split("."), _scalar(value, key)))
    try:
        return RunConfig.model_validate(fields)
    except ValidationError as error:
        first = error.errors(include_url=False, include_context=False)[0]
        key = ".".join(str(part) for part in first["loc"]) or "settings"
        if first["type"] == "extra_forbidden":
            raise ConfigError(f"{key} = {first['input']!r}: there is no such setting{_meant(first['loc'])}") from error
        shown = repr(first["input"])
        value = f" = {shown}" if len(shown) <= 80 else ""  # what is at fault may be the settings as a whole
        raise ConfigError(f"{key}{value}: {first['msg']}") from error


def _meant(path: tuple[int | str, ...]) -> str:
    """``; did you mean ...?`` when a setting of nearly that name exists anywhere."""
    names = _names(RunConfig().model_dump(mode="json"))
    wrong = ".".join(str(part) for part in path)
    by_leaf = {name.rpartition(".")[2]: name for name in names}
    near = difflib.get_close_matches(wrong, names, 1) or [
        by_leaf[leaf] for leaf in difflib.get_close_matches(str(path[-1]), by_leaf, 1)
    ]
    return f"; did you mean {near[0]}?" if near else ""


def _names(settings: dict[str, Any], prefix: str = "") -> list[str]:
    names: list[str] = []
    for key, value in settings.items():
        names += _names(value, f"{prefix}{key}.") if isinstance(value, dict) else [prefix + key]
    return names


def _yaml(text: str | bytes, where: str) -> Any:
    try:
        return yaml.safe_load(text)
    except (yaml.YAMLError, RecursionError) as error:
        raise ConfigError(f"{where}: not valid YAML") from error


def _scalar(text: str, key: str) -> Any:
    value = _yaml(text, key)
    if isinstance(value, str):  # YAML 1.1 takes 1e-3 for a string; JSON takes it for a number
        try:
            return float(value)
        except ValueError:
            return value
    return value


def _nested(keys: list[str], value: Any) -> dict[str, Any]:
    return {keys[0]: value if len(keys) == 1 else _nested(keys[1:], value)}


def _merge(base: dict[str, Any], changes: dict[str, Any]) -> None:
    for key, value in changes.items():
        if isinstance(value, dict) and isinstance(base.get(key), dict):
            _merge(base[key], value)
        else:
            base[key] = value
