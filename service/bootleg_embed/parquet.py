"""A finished store as one parquet file: id, embedding as a list of fixed size, its space, and why it is missing."""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING, Any

import numpy as np

from bootleg_bundle.sources.extras import optional
from bootleg_embed.store import ITEMS, VECTORS

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from bootleg_embed.journal import Identity, Journal

GROUP_BYTES = 32 * 2**20
NAME = "embeddings.parquet"


def arrow() -> tuple[Any, Any]:
    """The library, asked for before any work is done.

    Raises:
        DataError: it is not installed.
    """
    reason = "writing parquet"
    return optional("pyarrow", "parquet", reason), optional("pyarrow.parquet", "parquet", reason)


def write_parquet(folder: Path, journal: Journal) -> Path:
    """Write ``embeddings.parquet`` beside the store's files, a bounded number of rows at a time.

    Rows of more than one axis are flattened; the schema's metadata has their shape.
    """
    _, pq = arrow()
    identity = journal.identity
    vectors = np.load(folder / VECTORS, mmap_mode="r", allow_pickle=False)
    path = folder / NAME
    form = schema(identity)
    with pq.ParquetWriter(path, form, compression="zstd") as writer, (folder / ITEMS).open(encoding="utf-8") as items:
        for start in range(0, identity.images, group_rows(identity)):
            rows = np.ascontiguousarray(vectors[start : start + group_rows(identity)])
            lines = [json.loads(next(items)) for _ in rows]
            reasons = [line["reason"] if line["status"] != "ok" else None for line in lines]
            writer.write_table(table(form, identity, [line["id"] for line in lines], rows, reasons))
    sync(path)
    return path


def table(form: Any, identity: Identity, ids: Sequence[str], rows: NDArray[Any], reasons: Sequence[str | None]) -> Any:
    """Rows ``[n, *identity.row]`` as columns; a row with a reason is null."""
    pa, _ = arrow()
    failed = np.array([reason is not None for reason in reasons])
    space = pa.DictionaryArray.from_arrays(pa.array(np.zeros(len(ids), np.int32)), pa.array([identity.embedding_space]))
    size = int(np.prod(identity.row))
    columns = [
        pa.array([storable(name) for name in ids], pa.string()),
        pa.FixedSizeListArray.from_arrays(pa.array(rows.reshape(-1)), size, mask=pa.array(failed)),
        pa.array(reasons, pa.string()),
        space,
    ]
    return pa.Table.from_arrays(columns, schema=form)


def schema(identity: Identity, also: Mapping[bytes, bytes] | None = None) -> Any:
    """The columns, and the run under ``bootleg`` in the metadata."""
    pa, _ = arrow()
    number = pa.from_numpy_dtype(np.dtype(identity.dtype))
    fields = [
        pa.field("id", pa.string(), nullable=False),
        pa.field("embedding", pa.list_(number, int(np.prod(identity.row)))),
        pa.field("error", pa.string()),
        pa.field("embedding_space", pa.dictionary(pa.int32(), pa.string()), nullable=False),
    ]
    return pa.schema(fields, metadata={b"bootleg": identity.model_dump_json().encode(), **(also or {})})


def group_rows(identity: Identity) -> int:
    """Rows of a row group: a bounded number of bytes."""
    row_bytes = int(np.prod(identity.row)) * np.dtype(identity.dtype).itemsize
    return min(65_536, max(1, GROUP_BYTES // row_bytes))


def storable(name: str) -> str:
    """A file name may hold bytes that are no UTF-8; parquet's text may not."""
    return name.encode("utf-8", "backslashreplace").decode()


def sync(path: Path) -> None:
    """To the disk, after a library wrote it."""
    with path.open("rb") as file:
        os.fsync(file.fileno())
