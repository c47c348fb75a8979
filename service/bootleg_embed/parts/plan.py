"""What a folder of parts is: written before the first part, compared before every run.

    OUT/_plan.json             what the parts are parts of
    OUT/part-000000.parquet    there, whole, or not at all
    OUT/_faults.jsonl          the images that failed
    OUT/_embed.json            written last: all parts were counted

Names that begin with ``_`` are left out by everything that reads a folder of parquet files.
"""

from __future__ import annotations

import contextlib
import fcntl
from typing import TYPE_CHECKING

from pydantic import BaseModel, ConfigDict, ValidationError

from bootleg_bundle.errors import DataError
from bootleg_embed.journal import Identity, check_same, replace_file
from bootleg_embed.parts.partition import Partition

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

PLAN, FAULTS, RECORD, LOCK = "_plan.json", "_faults.jsonl", "_embed.json", "_lock"
UNFINISHED = ".unfinished"


class Plan(BaseModel):
    """What must be the same for a part to be the same bytes, whoever computes it."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    identity: Identity
    part_images: int
    batch: int

    @property
    def partition(self) -> Partition:
        """Which images are in which part."""
        return Partition(self.identity.images, self.part_images)


class Record(BaseModel):
    """What was counted when all parts were there."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    plan: Plan
    parts: int
    rows: int
    failed: int


@contextlib.contextmanager
def claimed(folder: Path, plan: Plan) -> Iterator[None]:
    """Make the folder this plan's, and keep other drivers out of it.

    Raises:
        DataError: it is another run's, damaged, no folder of parts, or another driver is at work.
    """
    if folder.exists() and not folder.is_dir():
        raise DataError(f"{folder} is a file; --engine ray writes a folder of parts: choose another --out")
    folder.mkdir(parents=True, exist_ok=True)
    if not (folder / PLAN).exists() and {path.name for path in folder.iterdir()} - {LOCK, f"{PLAN}.new"}:
        raise DataError(f"{folder} holds files that are no parts of this run: empty it, or choose another --out")
    with (folder / LOCK).open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)  # let go of by the system when the process ends
        except BlockingIOError:
            raise DataError(f"{folder} is being written by another process") from None
        found = _read(folder)
        if found is not None:
            _check(folder, found, plan)
        else:
            replace_file(folder / PLAN, plan.model_dump_json(indent=2).encode() + b"\n")
        sweep(folder)
        yield


def sweep(folder: Path) -> None:
    """Remove what workers left that were killed; one that is given up but alive fails when it moves its part."""
    for path in folder.glob(f"*{UNFINISHED}"):
        path.unlink(missing_ok=True)


def recorded(folder: Path, plan: Plan) -> Record | None:
    """The record of a complete run; None where there is none yet."""
    try:
        record = Record.model_validate_json((folder / RECORD).read_bytes())
    except FileNotFoundError:
        return None
    except ValidationError:
        raise DataError(f"{folder / RECORD} is damaged: remove it to count the parts again") from None
    _check(folder, record.plan, plan)
    return record


def missing(folder: Path, plan: Plan) -> list[int]:
    """The parts that are not there."""
    there = {path.name for path in folder.glob("part-*.parquet")}
    partition = plan.partition
    return [part for part in range(len(partition)) if partition.name(part) not in there]


def _read(folder: Path) -> Plan | None:
    try:
        return Plan.model_validate_json((folder / PLAN).read_bytes())
    except FileNotFoundError:
        return None
    except ValidationError:
        raise DataError(f"{folder / PLAN} is damaged: empty {folder} to begin again") from None


def _check(folder: Path, found: Plan, wanted: Plan) -> None:
    check_same(folder, found.identity, wanted.identity)
    for name in ("part_images", "batch"):
        was, now = getattr(found, name), getattr(wanted, name)
        if was != now:
            option = "--" + name.replace("_", "-")
            raise DataError(f"{folder} was begun with {option} {was}: go on with it, or choose another --out")
