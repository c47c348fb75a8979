"""Images inside a parquet file: a column of encoded bytes, or of the Hugging Face layout ``{bytes, path}``.

The row group of the image that is wanted is held in memory, with one before it: write small groups.
"""

from __future__ import annotations

import threading
from bisect import bisect_right
from typing import TYPE_CHECKING, Any

from bootleg_bundle.errors import DataError, EmptyImageError
from bootleg_bundle.sources.base import Source, check_size, natural_order
from bootleg_bundle.sources.extras import optional
from bootleg_bundle.sources.listing import LABEL_COLUMNS, PATH_COLUMNS

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

NAME_COLUMNS = ("id", "key", "__key__", "image_id", *PATH_COLUMNS)
GROUPS_HELD = 2


class ParquetSource(Source):
    """The images of a parquet file, in its order.

    An image's name is what the first of ``NAME_COLUMNS`` says, if that is different for every row; else the number
    of its row.

    Raises:
        DataError: the file is damaged or empty.
    """

    def __init__(self, path: Path, column: str) -> None:
        arrow, parquet = _libraries(path)
        self.name = path.stem
        self._column, self._lock = column, threading.Lock()
        self._held: dict[int, Sequence[Any]] = {}
        try:
            self._file = parquet.ParquetFile(path)
            rows = self._file.metadata.num_rows
            self._files = self._texts(NAME_COLUMNS, skip=column)
            self._labels = self._texts(LABEL_COLUMNS, skip=column)
        except arrow.ArrowException as error:
            raise DataError(f"{path} is no parquet file, or a damaged one") from error
        if not rows:
            raise DataError(f"{path} holds no images")
        if self._files is None or None in self._files or len(set(self._files)) < rows:
            self._files = [f"{number:08}" for number in range(rows)]
        self.classes = natural_order(label for label in self._labels or () if label is not None) or None
        groups = (self._file.metadata.row_group(number).num_rows for number in range(self._file.num_row_groups))
        self._starts = [0]
        for count in groups:
            self._starts.append(self._starts[-1] + count)

    def __len__(self) -> int:
        return self._starts[-1]

    def file(self, number: int) -> str:
        """The row's name, or its number."""
        assert self._files is not None
        return str(self._files[number])

    def label(self, number: int) -> str | None:
        """The row's class."""
        return None if self._labels is None else self._labels[number]

    def size(self, number: int) -> int:
        """Encoded size in bytes; reads the row's group."""
        return len(self._stored(number))

    def read(self, number: int) -> bytes:
        """The bytes in the row."""
        data = self._stored(number)
        check_size(len(data))
        return bytes(data)

    def _stored(self, number: int) -> memoryview:
        group = bisect_right(self._starts, number) - 1
        with self._lock:  # Arrow's reader is not for several threads at once
            if group not in self._held:
                while len(self._held) >= GROUPS_HELD:
                    del self._held[next(iter(self._held))]
                chunks = self._file.read_row_group(group, columns=[self._column]).column(0)
                self._held[group] = chunks
            value = self._held[group][number - self._starts[group]]
        if value.is_valid and "bytes" in getattr(value, "keys", tuple)():
            value = value["bytes"]
        if not value.is_valid:
            raise EmptyImageError("the row holds no image")
        return memoryview(value.as_buffer())

    def _texts(self, names: Sequence[str], *, skip: str) -> list[str | None] | None:
        """The first column that is there, as text."""
        schema = self._file.schema_arrow
        place = {field.name.strip().lower(): field.name for field in schema if field.name != skip}
        name = next((place[name] for name in names if name in place), None)
        if name is None:
            return None
        column = self._file.read(columns=[name]).column(0)
        return [None if value is None else str(value) for value in column.to_pylist()]


def image_column(path: Path) -> str | None:
    """The one column of encoded images; None when there is none, as in a list of paths.

    Raises:
        DataError: the file is damaged, or has several.
    """
    arrow, parquet = _libraries(path)
    try:
        schema = parquet.read_schema(path)
    except arrow.ArrowException as error:
        raise DataError(f"{path} is no parquet file, or a damaged one") from error
    found = [field.name for field in schema if _is_bytes(arrow, field.type)]
    if len(found) > 1:
        raise DataError(f"{path} has {len(found)} columns of bytes ({', '.join(found)}); keep the one of images")
    return found[0] if found else None


def _is_bytes(arrow: Any, kind: Any) -> bool:
    types = arrow.types
    if types.is_struct(kind):
        at = kind.get_field_index("bytes")
        return at >= 0 and _is_bytes(arrow, kind.field(at).type)
    return bool(types.is_binary(kind) or types.is_large_binary(kind))


def _libraries(path: Path) -> tuple[Any, Any]:
    reason = f"reading {path.name}"
    return optional("pyarrow", "parquet", reason), optional("pyarrow.parquet", "parquet", reason)
