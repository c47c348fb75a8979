"""Preset, file and ``--set`` settings, put together and validated: what the commands train with."""

from __future__ import annotations

import difflib
from typing import TYPE_CHECKING, Any

import yaml
from pydantic import ValidationError

from bootleg_bundle.errors import ConfigError
from bootleg_training.config import RunConfig
from bootleg_training.presets import PRESETS

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


def compose(preset: str, file: Path | None, settings: tuple[str, ...], *, base: RunConfig | None = None) -> RunConfig:
    """Preset, then YAML file, then ``key=value`` settings, validated together; ``base`` stands in for the preset.

    Raises:
        ConfigError: names the key, the value and what was expected.
    """
    fields: dict[str, Any] = (base or PRESETS[preset]).model_dump(mode="json")
    for _, changes in _layers(file, settings):
        _merge(fields, changes)
    return validated(fields)


def origins(preset: str, file: Path | None, settings: tuple[str, ...]) -> dict[str, str]:
    """Where each value of :func:`compose` comes from, by dotted name: ``default``, the preset, the file or ``--set``.

    Raises:
        ConfigError: the file or a setting cannot be read; whether it fits is for :func:`compose` to say.
    """
    chosen = PRESETS[preset]
    found = dict.fromkeys(flat(chosen.model_dump(mode="json")), "default")
    found |= dict.fromkeys(flat(chosen.model_dump(mode="json", exclude_unset=True)), f"preset {preset}")
    for origin, changes in _layers(file, settings):
        found |= dict.fromkeys(flat(changes), origin)
    return found


def _layers(file: Path | None, settings: tuple[str, ...]) -> Iterator[tuple[str, dict[str, Any]]]:
    """What changes a preset, later layers over earlier ones, each with its origin."""
    if file is not None:
        loaded = read_yaml(file.read_bytes(), str(file))
        if not isinstance(loaded, dict):
            raise ConfigError(f"{file}: a mapping of settings is expected")
        yield f"file {file.name}", loaded
    for setting in settings:
        key, equals, value = setting.partition("=")
        if not equals or not key:
            raise ConfigError(f"--set {setting}: use KEY=VALUE")
        yield "--set", _nested(key.split("."), _scalar(value, key))


def validated(fields: Any) -> RunConfig:
    """Settings of nested values.

    Raises:
        ConfigError: names the key, the value and what was expected.
    """
    try:
        return RunConfig.model_validate(fields)
    except ValidationError as error:
        first = error.errors(include_url=False, include_context=False)[0]
        key = ".".join(str(part) for part in first["loc"]) or "settings"
        if first["type"] == "extra_forbidden":
            raise ConfigError(f"{key} = {first['input']!r}: there is no such setting{_meant(first['loc'])}") from error
        shown = repr(first["input"])
        value = f" = {shown}" if len(shown) <= 80 else ""  # what is at fault may be the settings as a whole
        raise ConfigError(f"{key}{value}: {first['msg'].removeprefix('Value error, ')}") from error


def _meant(path: tuple[int | str, ...]) -> str:
    """``; did you mean ...?`` when a setting of nearly that name exists anywhere."""
    known = list(flat(RunConfig().model_dump(mode="json")))
    wrong = ".".join(str(part) for part in path)
    by_leaf = {name.rpartition(".")[2]: name for name in known}
    last = str(path[-1])
    beside = [name for name in known if name.rpartition(".")[0] == wrong.rpartition(".")[0]]
    near = [name for name in beside if last in name.rpartition(".")[2].split("_")]  # lr: base_lr before clip
    near = (
        near
        or difflib.get_close_matches(wrong, known, 1)
        or [by_leaf[leaf] for leaf in difflib.get_close_matches(last, by_leaf, 1)]
    )
    return f"; did you mean {near[0]}?" if near else ""


def flat(settings: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Values of nested settings by dotted name, in their order."""
    found: dict[str, Any] = {}
    for key, value in settings.items():
        found |= flat(value, f"{prefix}{key}.") if isinstance(value, dict) else {f"{prefix}{key}": value}
    return found


class _Loader(yaml.SafeLoader):
    """YAML in which a key may stand once; the library takes the last one without a word."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:  # noqa: FBT001, FBT002
        seen: set[str] = set()
        for key, _ in node.value:
            if key.value in seen:
                raise ConfigError(f"line {key.start_mark.line + 1} sets {key.value!r} a second time")
            seen.add(str(key.value))
        return super().construct_mapping(node, deep)


def read_yaml(text: str | bytes, where: str) -> Any:
    """One YAML document, of plain values only.

    Raises:
        ConfigError: it is none, or sets a key twice; names ``where`` and the line.
    """
    try:
        return _Loader(text).get_single_data()
    except ConfigError as error:
        raise ConfigError(f"{where}: {error.message}") from error
    except (yaml.YAMLError, RecursionError) as error:
        mark = getattr(error, "problem_mark", None)
        line = f" in line {mark.line + 1}" if mark else ""
        tab = "; tabs cannot indent" if "'\\t'" in str(error) else ""
        raise ConfigError(f"{where}: not valid YAML{line}{tab}") from error


def _scalar(text: str, key: str) -> Any:
    value = read_yaml(text, key)
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
