"""Rows on disk, with a journal: after a kill at any moment, what the journal counts is there, once.

While it is being written, ``OUT.partial/`` holds the array, a line for each image, and ``journal.json``, replaced
atomically after both were flushed. What lies beyond the journal is overwritten. Never a memory map: a full disk would
then be a signal that kills the process, and not an error.
"""

from __future__ import annotations

import contextlib
import fcntl
import io
import json
import os
from typing import IO, TYPE_CHECKING, Any

import numpy as np

from bootleg_bundle.errors import DataError
from bootleg_embed.journal import JOURNAL, Identity, Journal, check_same, flush, read_journal, replace_file

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from bootleg_embed.backend import Failure

VECTORS, ITEMS, LOCK = "embeddings.npy", "items.jsonl", "lock"


class Store:
    """The unfinished output of one run.

    Args:
        folder: ``OUT.partial``; made when it is not there.
        identity: of the run.

    Raises:
        DataError: it was begun with another identity, is damaged, or another process writes it.
        OSError: the disk is full.
    """

    def __init__(self, folder: Path, identity: Identity) -> None:
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        with contextlib.ExitStack() as held:
            lock = held.enter_context((folder / LOCK).open("w"))
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)  # let go of by the system when the process ends
            except BlockingIOError:
                raise DataError(f"{folder} is being written by another process") from None
            found = read_journal(folder)
            if found is not None:
                check_same(folder, found.identity, identity)
            self.journal = found or Journal(identity=identity)
            self._header = _header(identity)
            self._row_bytes = int(np.prod(identity.row)) * np.dtype(identity.dtype).itemsize
            size = len(self._header) + identity.images * self._row_bytes
            self._vectors = held.enter_context(self._open(VECTORS, size, fresh=found is None))
            self._items = held.enter_context(self._open(ITEMS, self.journal.items_bytes, fresh=found is None))
            if found is None:
                self._vectors.write(self._header)
                self._vectors.flush()
                _allocate(self._vectors, size)
                flush(self._vectors)
                self._write_journal(self.journal)
            self._held = held.pop_all()

    def append(self, ids: Sequence[str], rows: Sequence[NDArray[Any] | Failure], seconds: float) -> None:
        """Write the next rows and count them; when this returns, they survive a power cut.

        Args:
            ids: of the images.
            rows: of the identity's shape and dtype, or failures, whose rows are NaN.
            seconds: spent on them.
        """
        identity, at = self.journal.identity, self.journal.done
        block = np.full((len(rows), *identity.row), np.nan, identity.dtype)
        lines, failed = [], 0
        for place, (name, row) in enumerate(zip(ids, rows, strict=True)):
            item: dict[str, Any] = {"row": at + place, "id": name, "status": "ok"}
            if isinstance(row, tuple):
                failed += 1
                item |= {"status": "failed", "code": row.code, "reason": row.reason}
            else:
                block[place] = row
            lines.append(json.dumps(item, ensure_ascii=False) + "\n")
        self._vectors.seek(len(self._header) + at * self._row_bytes)
        self._vectors.write(block.tobytes())
        flush(self._vectors)
        # A file name may hold bytes that are no UTF-8; os.fsdecode made surrogates of them.
        text = "".join(lines).encode("utf-8", "backslashreplace")
        self._items.seek(self.journal.items_bytes)  # an append that was interrupted may have left lines behind
        self._items.truncate()
        self._items.write(text)
        flush(self._items)
        self._write_journal(
            self.journal.model_copy(
                update={
                    "done": at + len(rows),
                    "failed": self.journal.failed + failed,
                    "items_bytes": self.journal.items_bytes + len(text),
                    "seconds": self.journal.seconds + seconds,
                }
            )
        )

    def close(self) -> None:
        """Close the files; what was appended is safe already."""
        self._held.close()

    def _open(self, name: str, size: int, *, fresh: bool) -> IO[bytes]:
        path = self.folder / name
        if not fresh and (not path.is_file() or path.stat().st_size < size):
            raise DataError(f"{path} is missing or cut short: delete {self.folder} to begin again")
        return path.open("w+b" if fresh else "r+b")

    def _write_journal(self, journal: Journal) -> None:
        replace_file(self.folder / JOURNAL, journal.model_dump_json().encode())
        self.journal = journal


def _allocate(file: IO[bytes], size: int) -> None:
    """Take the room now, so that a disk that is too small says so before anything is computed."""
    if hasattr(os, "posix_fallocate") and size:
        os.posix_fallocate(file.fileno(), 0, size)
    else:
        file.truncate(size)


def _header(identity: Identity) -> bytes:
    buffer = io.BytesIO()
    shape = (identity.images, *identity.row)
    description = np.lib.format.dtype_to_descr(np.dtype(identity.dtype).newbyteorder("<"))
    np.lib.format.write_array_header_1_0(buffer, {"descr": description, "fortran_order": False, "shape": shape})
    return buffer.getvalue()
