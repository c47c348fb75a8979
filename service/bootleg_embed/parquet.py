"""A finished store as one parquet file: id, embedding as a list of fixed size, its space, and why it is missing."""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING, Any

import numpy as np

from bootleg_bundle.sources.extras import optional
from bootleg_embed.store import ITEMS, VECTORS

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

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
    pa, pq = arrow()
    identity = journal.identity
    vectors = np.load(folder / VECTORS, mmap_mode="r", allow_pickle=False)
    path = folder / NAME
    schema = _schema(pa, identity)
    with pq.ParquetWriter(path, schema, compression="zstd") as writer, (folder / ITEMS).open(encoding="utf-8") as items:
        for start, stop in _groups(identity):
            lines = [json.loads(next(items)) for _ in range(start, stop)]
            failed = np.array([line["status"] != "ok" for line in lines])
            values = pa.array(np.ascontiguousarray(vectors[start:stop]).reshape(-1))
            size = int(np.prod(identity.row))
            columns = [
                pa.array([_storable(line["id"]) for line in lines], pa.string()),
                pa.FixedSizeListArray.from_arrays(values, size, mask=pa.array(failed)),
                pa.array([line.get("reason") for line in lines], pa.string()),
                pa.DictionaryArray.from_arrays(
                    pa.array(np.zeros(len(lines), np.int32)), pa.array([identity.embedding_space])
                ),
            ]
            writer.write_table(pa.Table.from_arrays(columns, schema=schema))
    with path.open("rb") as file:
        os.fsync(file.fileno())
    return path


def _schema(pa: Any, identity: Identity) -> Any:
    number = pa.from_numpy_dtype(np.dtype(identity.dtype))
    fields = [
        pa.field("id", pa.string(), nullable=False),
        pa.field("embedding", pa.list_(number, int(np.prod(identity.row)))),
        pa.field("error", pa.string()),
        pa.field("embedding_space", pa.dictionary(pa.int32(), pa.string()), nullable=False),
    ]
    return pa.schema(fields, metadata={"bootleg": identity.model_dump_json()})


def _groups(identity: Identity) -> Iterator[tuple[int, int]]:
    row_bytes = int(np.prod(identity.row)) * np.dtype(identity.dtype).itemsize
    count = min(65_536, max(1, GROUP_BYTES // row_bytes))
    for start in range(0, identity.images, count):
        yield start, min(start + count, identity.images)


def _storable(name: str) -> str:
    """A file name may hold bytes that are no UTF-8; parquet's text may not."""
    return name.encode("utf-8", "backslashreplace").decode()
