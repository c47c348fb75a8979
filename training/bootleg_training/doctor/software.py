"""Versions, extras, and whether every module of training can be imported. Needs neither torch nor a network."""

from __future__ import annotations

import importlib
import pkgutil
import platform
import re
import sys
from importlib import metadata

import bootleg_training
from bootleg_training.doctor.line import Line

OURS = "bootleg-vision"
SHOWN = ("torch", "numpy", "pillow", "pydantic", "safetensors")
NOT_FOR_USERS = ("dev",)
_REQUIREMENT = re.compile(
    r"^(?P<name>[\w.-]+)(?:\[(?P<extras>[^\]]*)\])?.*?(?:extra == ['\"](?P<extra>[\w-]+)['\"])?\)?$"
)


def lines() -> list[Line]:
    """Python, packages and extras."""
    found = [
        Line("ok", "python", f"{platform.python_version()}, {platform.platform()}"),
        Line("ok", OURS, metadata.version(OURS)),
    ]
    for package in SHOWN:
        version = _version(package)
        found.append(
            Line("ok", package, version)
            if version
            else Line("bad", package, "not installed", f"pip install '{OURS}[training]'")
        )
    found += [_extra(name, missing) for name, missing in extras().items()]
    if _version("onnxruntime") and _version("onnxruntime-gpu"):
        both = "onnxruntime and onnxruntime-gpu overwrite each other's files"
        found.append(Line("warn", "onnxruntime", both, "uninstall both, then install one"))
    return found


def extras() -> dict[str, list[str]]:
    """What each extra of the installed distribution still lacks."""
    wanted: dict[str, set[str]] = {}
    within: dict[str, set[str]] = {}
    for requirement in metadata.requires(OURS) or []:
        match = _REQUIREMENT.match(requirement)
        if match is None or match["extra"] is None:
            continue
        if match["name"] == OURS:
            within.setdefault(match["extra"], set()).update((match["extras"] or "").replace(" ", "").split(","))
            wanted.setdefault(match["extra"], set())
        else:
            wanted.setdefault(match["extra"], set()).add(match["name"])
    for extra, others in within.items():
        for other in others:
            wanted[extra] |= wanted.get(other, set())
    return {
        extra: sorted(name for name in packages if _version(name) is None)
        for extra, packages in sorted(wanted.items())
        if extra not in NOT_FOR_USERS
    }


def imports() -> list[Line]:
    """Import every module of training; none may ask for torchvision, which is easily broken by another torch."""
    had = "torchvision" in sys.modules
    broken: list[Line] = []
    count = 0
    for module in pkgutil.walk_packages(bootleg_training.__path__, "bootleg_training.", onerror=lambda _: None):
        count += 1
        try:
            importlib.import_module(module.name)
        except Exception as error:  # noqa: BLE001  # whatever it is, it goes into the report
            broken.append(Line("bad", module.name, f"cannot be imported: {type(error).__name__}: {error}"))
    if not had and "torchvision" in sys.modules:
        broken.append(Line("bad", "imports", "something imports torchvision", "report this: nothing here should"))
    return broken or [Line("ok", "imports", f"all {count} modules, none needs torchvision")]


def _extra(name: str, missing: list[str]) -> Line:
    if not missing:
        return Line("ok", f"extra {name}", "present")
    line = f"pip install '{OURS}[{name}]'"
    absent = f"absent: {', '.join(missing)}"
    if name == "training":
        return Line("bad", f"extra {name}", absent, line)
    return Line("ok", f"extra {name}", absent, f"if wanted: {line}")


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None
