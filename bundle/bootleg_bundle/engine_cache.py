"""Where TensorRT engines lie on the machine that built them.

``bootleg engine`` stores an engine here and the service loads it, each under its key's name; nothing
near enough is ever taken, and nothing that its record does not vouch for is run.
"""

from __future__ import annotations

import hashlib
import os
from pathlib import Path
from typing import Final

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from bootleg_bundle.engine_key import EngineKey
from bootleg_bundle.errors import EngineFileError, first_fault

RECORD_LIMIT: Final = 64 * 1024  # bytes; a record has about one thousand


class EngineRecord(BaseModel):
    """The file beside an engine: what it was built from, and how far it is from the golden outputs."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    format_version: int = 1
    key: EngineKey
    model: str = Field(description="the bundle's name")
    embedding_space: str
    sha256: str = Field(pattern=r"^[0-9a-f]{64}$", description="of the engine")
    bytes: int = Field(gt=0)
    built: str = Field(description="UTC, ISO 8601")
    build_seconds: float = Field(ge=0)
    golden: dict[int, float] = Field(description="batch -> largest relative error (Frobenius) of a golden output")


def default_engine_cache() -> Path:
    """The directory of engines where none is set: the user's own, or the system's for a user without a home."""
    try:
        return Path.home() / ".cache" / "bootleg-vision" / "engines"
    except RuntimeError:  # a container that runs as a number with no name
        return Path("/var/cache/bootleg-vision/engines")


def prepare_cache(folder: Path) -> None:
    """Make the directory, for its owner alone.

    Raises:
        EngineFileError: it is there and belongs to another user, or anybody may write to it; what lies in it is run.
    """
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    status = folder.stat()
    if status.st_mode & 0o002 or status.st_uid not in {0, os.getuid()}:
        raise EngineFileError(f"engine cache {folder}: others may write to it, and engines are run as programs are")


def store_engine(folder: Path, plan: bytes, record: EngineRecord) -> Path:
    """Write an engine and its record, each whole or not at all; the record last.

    Returns:
        The engine's path.
    """
    prepare_cache(folder)
    engine, sidecar = _paths(folder, record.key)
    sidecar.unlink(missing_ok=True)
    write_whole(engine, plan)
    write_whole(sidecar, (record.model_dump_json(indent=2) + "\n").encode())
    return engine


def load_engine(folder: Path, key: EngineKey) -> tuple[bytes, EngineRecord] | None:
    """Read an engine and check it against its record.

    Returns:
        None when there is none for this key.

    Raises:
        EngineFileError: it is there and is not what its record says, or anybody may write to the directory.
    """
    engine, sidecar = _paths(folder, key)
    if not sidecar.is_file() or not engine.is_file():
        return None
    prepare_cache(folder)
    if sidecar.stat().st_size > RECORD_LIMIT:
        raise EngineFileError(f"{sidecar.name}: over {RECORD_LIMIT:,} bytes; this is no engine's record")
    try:
        record = EngineRecord.model_validate_json(sidecar.read_bytes())
    except ValidationError as error:
        field, reason = first_fault(error)
        raise EngineFileError(f"{sidecar.name}: {field}: {reason}") from None
    plan = engine.read_bytes()
    if record.key != key or len(plan) != record.bytes or hashlib.sha256(plan).hexdigest() != record.sha256:
        raise EngineFileError(f"{engine.name} is not the engine that its record describes: changed or damaged")
    return plan, record


def remove_engine(folder: Path, key: EngineKey) -> None:
    """Delete an engine and its record, if they are there."""
    for path in _paths(folder, key):
        path.unlink(missing_ok=True)


def write_whole(path: Path, content: bytes) -> None:
    """Write a file so that a reader sees the old one or the new one, and two writers do not mix."""
    partial = path.with_name(f"{path.name}.{os.getpid()}.partial")
    try:
        with partial.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


def _paths(folder: Path, key: EngineKey) -> tuple[Path, Path]:
    return folder / f"{key.stem}.engine", folder / f"{key.stem}.json"
