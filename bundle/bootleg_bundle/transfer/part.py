"""One file of a bundle on its way: what of it has arrived, and the hash of that."""

from __future__ import annotations

import hashlib
import os
from typing import TYPE_CHECKING, Self

from bootleg_bundle.transfer.source import CHUNK_BYTES

if TYPE_CHECKING:
    from pathlib import Path
    from types import TracebackType

    from bootleg_bundle.manifest import FileEntry


class Part:
    """A file that grows to the size of its entry; what an earlier pull left of it is read and kept.

    Args:
        path: where it lies; its directory is made.
        entry: what it is to become.

    Attributes:
        held: bytes that have arrived.
    """

    def __init__(self, path: Path, entry: FileEntry) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self._entry = entry
        self._file = path.open("ab+")
        self._digest = hashlib.sha256()
        self.held = 0
        self._file.seek(0)
        while chunk := self._file.read(CHUNK_BYTES):
            self._digest.update(chunk)
            self.held += len(chunk)
        if self.held > entry.bytes:
            self.restart()

    @property
    def missing(self) -> int:
        """Bytes still to come."""
        return self._entry.bytes - self.held

    @property
    def whole(self) -> bool:
        """Whether size and hash are the entry's."""
        return self.missing == 0 and self._digest.hexdigest() == self._entry.sha256

    def append(self, chunk: bytes) -> None:
        """Write what has arrived."""
        assert len(chunk) <= self.missing, "more than the manifest says"
        self._file.write(chunk)
        self._digest.update(chunk)
        self.held += len(chunk)

    def restart(self) -> None:
        """Throw away what has arrived."""
        self._file.truncate(0)
        self._digest, self.held = hashlib.sha256(), 0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with self._file:
            self._file.flush()
            os.fsync(self._file.fileno())
