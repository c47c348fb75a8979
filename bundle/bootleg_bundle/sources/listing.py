"""Images named in a list: CSV, TSV or parquet with a column of paths, or plain text with a path a line.

Paths are relative to the list's folder. Whether the files exist is found out when they are read, so that a missing
one is counted with the corrupt ones instead of costing ten million look-ups at the start.
"""

from __future__ import annotations

import csv
from typing import TYPE_CHECKING, Any

from bootleg_bundle.errors import DataError
from bootleg_bundle.sources.base import natural_order
from bootleg_bundle.sources.extras import optional
from bootleg_bundle.sources.folder import FolderSource

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

LIST_SUFFIXES = (".csv", ".tsv", ".txt", ".parquet")
PATH_COLUMNS = ("path", "file", "file_name", "filename", "image", "image_path")
LABEL_COLUMNS = ("label", "class", "class_name")


class ListSource(FolderSource):
    """The images of a list, in its order: files below its folder, named and labelled by it.

    Raises:
        DataError: the list cannot be read, has no path column, a row without a path, or a path twice.
    """

    def __init__(self, path: Path) -> None:
        try:
            rows = _read_parquet(path) if path.suffix.lower() == ".parquet" else _read_text(path)
        except (csv.Error, UnicodeError) as error:
            raise DataError(f"{path} is no UTF-8 list of columns") from error
        super().__init__(path.parent, [file for file, _ in rows])
        self.name = path.stem
        self._labels = [label for _, label in rows]
        if not rows:
            raise DataError(f"{path} lists no images")
        _check_files(path, self._files)
        self.classes = natural_order(label for label in self._labels if label is not None) or None

    def label(self, number: int) -> str | None:
        """The label as it stands in the list; None where it is empty."""
        return self._labels[number]


def _read_text(path: Path) -> list[tuple[str, str | None]]:
    with path.open(encoding="utf-8-sig", newline="") as file:
        if path.suffix.lower() == ".txt":
            return [(line.strip(), None) for line in file if line.strip()]
        reader = csv.reader(file, delimiter="\t" if path.suffix.lower() == ".tsv" else ",", strict=True)
        columns = next(reader, [])
        at, label_at = _columns(path, columns)
        cells = [(row + [""] * len(columns)) for row in reader if row]
    return [(row[at].strip(), None if label_at is None else row[label_at].strip() or None) for row in cells]


def _read_parquet(path: Path) -> list[tuple[str, str | None]]:
    parquet = optional("pyarrow.parquet", "parquet", f"reading {path.name}")
    arrow = optional("pyarrow", "parquet", f"reading {path.name}")
    try:
        schema = parquet.read_schema(path)
        columns = schema.names
        at, label_at = _columns(path, columns)
        if not _is_text(arrow.types, schema.field(at).type):
            raise DataError(f"{path}: the column {columns[at]} holds {schema.field(at).type}, not paths in text")
        names = [columns[at]] + ([] if label_at is None else [columns[label_at]])
        table = parquet.read_table(path, columns=names)
    except arrow.ArrowException as error:
        raise DataError(f"{path} is no parquet file, or a damaged one") from error
    files = ["" if value is None else str(value) for value in table.column(names[0]).to_pylist()]
    labels = table.column(names[1]).to_pylist() if label_at is not None else [None] * len(files)
    return [(file, None if label is None else str(label)) for file, label in zip(files, labels, strict=True)]


def _is_text(types: Any, kind: Any) -> bool:
    if types.is_dictionary(kind):
        kind = kind.value_type
    return bool(types.is_string(kind) or types.is_large_string(kind) or types.is_null(kind))


def _columns(path: Path, columns: Sequence[str]) -> tuple[int, int | None]:
    """Where the paths and the labels stand."""
    place = {name.strip().lower(): number for number, name in reversed(list(enumerate(columns)))}
    at = next((place[name] for name in PATH_COLUMNS if name in place), None)
    if at is None:
        raise DataError(
            f"{path} has no column of paths: call it one of {', '.join(PATH_COLUMNS)}; "
            f"its columns are {', '.join(columns) or 'none'}"
        )
    return at, next((place[name] for name in LABEL_COLUMNS if name in place), None)


def _check_files(path: Path, files: Sequence[str]) -> None:
    seen: dict[str, int] = {}
    for row, file in enumerate(files, start=1):
        if not file:
            raise DataError(f"{path}: image {row} has no path")
        if "\0" in file:
            raise DataError(f"{path}: the path of image {row} holds a null character")
        if (first := seen.setdefault(file, row)) != row:
            raise DataError(f"{path} lists {file} twice, as image {first} and image {row}: keep one")
