"""A run's record ``metrics.jsonl``, read back: one JSON object a line, steps and health checks in turn.

Never fails on a damaged line, as a crash of the machine leaves one: it is left out and counted.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pathlib import Path

RENAMED = {"explained_per_layer": "explained", "target_std_per_layer": "target_std"}
"""Names of the first records, by today's."""
WORDS = frozenset({"encoder", "verdict", "rule", "why"})
LISTS = frozenset({"explained", "target_std", "loss_per_layer", *RENAMED})


@dataclass(frozen=True)
class Record:
    """What a file holds.

    Attributes:
        lines: the objects, in order; each has an integer ``step``.
        damaged: lines left out because they are no such object.
    """

    lines: list[dict[str, Any]]
    damaged: int = 0

    @property
    def steps(self) -> list[dict[str, Any]]:
        """The lines of training steps."""
        return [line for line in self.lines if "loss" in line]

    @property
    def checks(self) -> list[dict[str, Any]]:
        """The lines of health checks."""
        return [line for line in self.lines if "encoder" in line]


def read_record(path: Path) -> Record:
    """Read a record; one that does not exist is empty."""
    if not path.is_file():
        return Record([])
    parsed = [_parse(line) for line in path.read_bytes().splitlines()]
    lines = [line for line in parsed if line is not None]
    return Record(lines, len(parsed) - len(lines))


def _parse(line: bytes) -> dict[str, Any] | None:
    try:
        fields: Any = json.loads(line)
    except ValueError:
        return None
    if not isinstance(fields, dict) or type(fields.get("step")) is not int or fields["step"] < 0:
        return None
    if not all(_fits(name, value) for name, value in fields.items()):
        return None
    return {RENAMED.get(str(name), str(name)): value for name, value in fields.items()}


def _fits(name: str, value: Any) -> bool:
    """Words, lists and numbers where each belongs; null is a number that was not finite."""
    if name in WORDS:
        return isinstance(value, str)
    if name in LISTS or name.endswith("_layers"):
        return value is None or (isinstance(value, list) and all(map(_is_number, value)))
    return _is_number(value)


def _is_number(value: Any) -> bool:
    return value is None or type(value) in {int, float}
