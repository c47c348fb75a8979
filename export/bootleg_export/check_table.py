"""The checks of ``bootleg verify`` as a table that grows on a terminal."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.console import Console
from rich.live import Live
from rich.table import Table
from rich.text import Text

if TYPE_CHECKING:
    from collections.abc import Iterable

    from bootleg_export.check import Check


def show_table(checks: Iterable[Check], console: Console | None = None) -> bool:
    """Add a row for each check as it is done; whether all passed."""
    table = Table("", "check", "measured")
    passed = True
    with Live(table, console=console or Console(), vertical_overflow="visible"):
        for check in checks:
            table.add_row("[green]ok[/]" if check.passed else "[bold red]FAIL[/]", Text(check.name), Text(check.detail))
            passed = passed and check.passed
    return passed
