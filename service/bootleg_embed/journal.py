"""What a run is and how far it got: the record that decides whether two runs are the same, replaced atomically."""

from __future__ import annotations

import os
from typing import IO, TYPE_CHECKING, Any

from pydantic import BaseModel, ConfigDict, ValidationError

from bootleg_bundle.errors import DataError

if TYPE_CHECKING:
    from pathlib import Path

JOURNAL = "journal.json"


class Identity(BaseModel):
    """What must be the same for a run to be resumed."""

    model_config = ConfigDict(frozen=True, extra="forbid", protected_namespaces=())

    source: str
    images: int
    output: str
    dtype: str
    ids: str
    model: str
    model_sha256: str
    embedding_space: str
    row: tuple[int, ...]


class Journal(BaseModel):
    """How far a run is."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    identity: Identity
    done: int = 0
    failed: int = 0
    items_bytes: int = 0
    seconds: float = 0.0


def read_journal(folder: Path) -> Journal | None:
    """The journal of an unfinished run; None where there is none.

    Raises:
        DataError: it is damaged.
    """
    try:
        return Journal.model_validate_json((folder / JOURNAL).read_bytes())
    except FileNotFoundError:
        return None
    except ValidationError:
        raise DataError(f"{folder / JOURNAL} is damaged: delete {folder} to begin again") from None


def replace_file(path: Path, content: bytes) -> None:
    """Write a small file so that a reader sees the old one or the new one, whole, even after a power cut."""
    new = path.with_name(path.name + ".new")
    with new.open("wb") as file:
        file.write(content)
        flush(file)
    new.replace(path)
    flush_folder(path.parent)


def flush_folder(folder: Path) -> None:
    """Make renames in a folder durable."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def check_same(place: Path, found: Identity, wanted: Identity) -> None:
    """Refuse to mix two runs.

    Raises:
        DataError: with the first field that differs.
    """
    for name in Identity.model_fields:
        was, now = getattr(found, name), getattr(wanted, name)
        if was != now:
            raise DataError(
                f"{place} is there already, with {name} = {was} where this run has {now}: remove it, "
                "or choose another --out"
            )


def flush(file: IO[Any]) -> None:
    """To the disk, not just to the system."""
    file.flush()
    os.fsync(file.fileno())
