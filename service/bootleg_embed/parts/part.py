"""One part: written beside its place and moved there whole, so that it is there once, or not at all.

Row groups are cut by number of rows, never by time, so that whoever computes a part writes the same bytes.
"""

from __future__ import annotations

import uuid
from typing import TYPE_CHECKING, Any, NamedTuple, Self

import numpy as np

from bootleg_bundle.errors import DataError
from bootleg_embed.journal import Identity, Journal, flush_folder
from bootleg_embed.parquet import arrow, group_rows, schema, sync, table
from bootleg_embed.parts.plan import UNFINISHED

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from bootleg_embed.backend import Failure
    from bootleg_embed.parts.plan import Plan

PART = b"bootleg_part"


def attempts(folder: Path, name: str) -> list[Path]:
    """What workers left that died at a part, or are at it now."""
    return list(folder.glob(f"_{name}.*{UNFINISHED}"))


class PartWriter:
    """Takes rows from :func:`bootleg_embed.run.run` as a store does, and writes one part.

    Args:
        folder: of the parts.
        plan: of the run.
        part: which one.
    """

    def __init__(self, folder: Path, plan: Plan, part: int) -> None:
        _, pq = arrow()
        self._place = folder / plan.partition.name(part)
        # Two workers may be at the same part: one that the cluster has given up may still be alive.
        self._new = folder / f"_{self._place.name}.{uuid.uuid4().hex}{UNFINISHED}"
        self._schema = schema(plan.identity, {PART: str(part).encode()})
        self._writer = pq.ParquetWriter(self._new, self._schema, compression="zstd")
        self._names: list[str] = []
        self._rows: list[NDArray[Any] | Failure] = []
        self.journal = Journal(identity=plan.identity)

    def append(self, ids: Sequence[str], rows: Sequence[NDArray[Any] | Failure], seconds: float) -> None:
        """Take the next rows."""
        self._names += ids
        self._rows += rows
        count = group_rows(self.journal.identity)
        while len(self._rows) >= count:
            self._write(count)
        failed = sum(isinstance(row, tuple) for row in rows)
        done = {"done": self.journal.done + len(rows), "failed": self.journal.failed + failed}
        self.journal = self.journal.model_copy(update={**done, "seconds": self.journal.seconds + seconds})

    def __enter__(self) -> Self:
        return self

    def __exit__(self, fault: type[BaseException] | None, *_: object) -> None:
        """Put the part in its place, to survive a power cut; after a fault, leave nothing."""
        if fault is not None:
            self._writer.close()
            self._new.unlink(missing_ok=True)
            return
        if self._rows:
            self._write(len(self._rows))
        self._writer.close()
        sync(self._new)
        self._new.replace(self._place)
        flush_folder(self._place.parent)

    def _write(self, count: int) -> None:
        identity = self.journal.identity
        names, rows = self._names[:count], self._rows[:count]
        block = np.full((count, *identity.row), np.nan, identity.dtype)
        for place, row in enumerate(rows):
            if not isinstance(row, tuple):
                block[place] = row
        reasons = [row.reason if isinstance(row, tuple) else None for row in rows]
        self._writer.write_table(table(self._schema, identity, names, block, reasons))
        del self._names[:count], self._rows[:count]


class Counted(NamedTuple):
    """What a part's footer says."""

    rows: int
    failed: int


def count_part(path: Path, identity: Identity, part: int) -> Counted:
    """Rows and failures of a part, by its footer alone.

    Raises:
        DataError: it is missing, damaged, or another run's.
    """
    pa, pq = arrow()
    try:
        footer = pq.read_metadata(path)
    except FileNotFoundError:
        raise DataError(f"{path} is missing: --out must lie on storage that all machines share") from None
    except pa.ArrowException:
        raise DataError(f"{path} is damaged: remove it, and run the same command again") from None
    wanted = schema(identity, {PART: str(part).encode()}).metadata
    found = footer.metadata or {}
    if any(found.get(key) != value for key, value in wanted.items()):
        raise DataError(f"{path} is no part of this run: remove it, and run the same command again")
    error = footer.schema.names.index("error")
    groups = [footer.row_group(number) for number in range(footer.num_row_groups)]
    return Counted(footer.num_rows, sum(g.num_rows - g.column(error).statistics.null_count for g in groups))


def read_ids(path: Path) -> Iterator[tuple[str, str | None]]:
    """Each image of a part, and why it has no row.

    Raises:
        DataError: it is damaged.
    """
    pa, pq = arrow()
    try:
        found = pq.read_table(path, columns=["id", "error"], partitioning=None)
    except pa.ArrowException:
        raise DataError(f"{path} is damaged: remove it, and run the same command again") from None
    yield from zip(found["id"].to_pylist(), found["error"].to_pylist(), strict=True)
