"""``bootleg doctor``: it must never end in a traceback, whatever is broken, nor need what it looks for."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import click

from bootleg_training.cli import FOLDER
from bootleg_training.doctor.line import Line

COLOURS = {"ok": "green", "warn": "yellow", "bad": "red"}


@click.command()
@click.argument("folder", type=FOLDER, default=".")
def doctor(folder: Path) -> None:
    """Check versions, devices, decode speed and disk space.

    FOLDER is where you work, or where your images are: its disk is looked at, and its images are decoded. Exits with
    1 if something is bad.
    """
    lines = [line for name, check in _checks(folder) for line in guarded(name, check)]
    _show(lines)
    if any(line.level == "bad" for line in lines):
        raise SystemExit(1)


def _checks(folder: Path) -> list[tuple[str, Callable[[], list[Line]]]]:
    """By name; what they import is imported when they run."""

    def software() -> list[Line]:
        from bootleg_training.doctor import software

        return software.lines()

    def machine() -> list[Line]:
        from bootleg_training.doctor import machine

        return machine.lines()

    def place() -> list[Line]:
        from bootleg_training.doctor import place

        return place.lines(folder)

    def imports() -> list[Line]:
        from bootleg_training.doctor import software

        return software.imports()

    return [("software", software), ("machine", machine), ("folder", place), ("imports", imports)]


def guarded(name: str, check: Callable[[], list[Line]]) -> list[Line]:
    """A check's lines, or a line that says how it failed."""
    try:
        return check()
    except ModuleNotFoundError as error:
        return [Line("bad", name, f"{error.name} is not installed", "pip install 'bootleg-vision[training]'")]
    except Exception as error:  # noqa: BLE001  # a broken machine is what this command is for
        return [Line("bad", name, f"the check failed: {type(error).__name__}: {error}")]


def _show(lines: list[Line]) -> None:
    """A table on a terminal, plain lines elsewhere."""
    if sys.stdout.isatty():
        try:
            from rich.console import Console
            from rich.table import Table
            from rich.text import Text
        except ModuleNotFoundError:
            pass  # reported as a missing extra
        else:
            table = Table("", "", "found", "advice")
            for line in lines:
                table.add_row(Text(line.level, COLOURS[line.level]), *map(Text, (line.name, line.value, line.advice)))
            Console().print(table)
            return
    for line in lines:
        click.echo(f"{line.level:<4}  {line.name}: {line.value}" + (f" ({line.advice})" if line.advice else ""))
