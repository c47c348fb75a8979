"""Images of a Hugging Face data set, saved to disk or by name; encoded bytes are taken as they are stored."""

from __future__ import annotations

from array import array
from pathlib import Path
from typing import Any

from bootleg_bundle.errors import DataError, EmptyImageError
from bootleg_bundle.sources.base import Source, check_size, natural_order
from bootleg_bundle.sources.extras import optional

PREFIX = "hf:"
_SAVED, _SAVED_SPLITS = "state.json", "dataset_dict.json"


class HubSource(Source):
    """One split of a data set of the ``datasets`` library; an image's name is the number of its row.

    The column of images is found by its type; the labels are the first ``ClassLabel`` column, else a plain column
    called ``label``.

    Args:
        dataset: a ``datasets.Dataset``.
        name: what the data set is called in reports.

    Raises:
        DataError: the split is empty, or has no column of images or several.
    """

    def __init__(self, dataset: Any, name: str) -> None:
        datasets = _library()
        self.name = name
        columns = [column for column, kind in dataset.features.items() if isinstance(kind, datasets.Image)]
        if len(columns) != 1 or not len(dataset):
            found = ", ".join(columns) or "none"
            raise DataError(f"{name} must have rows, and one column of images: it has {len(dataset)} rows, and {found}")
        self._column = columns[0]
        self._rows = dataset.select_columns(columns).cast_column(self._column, datasets.Image(decode=False))
        self._sizes = _sizes(self._rows, self._column)
        self._labels, self.classes = _labels(dataset, datasets)

    def __len__(self) -> int:
        return len(self._rows)

    def file(self, number: int) -> str:
        """The number of the row."""
        return f"{number:08}"

    def label(self, number: int) -> str | None:
        """The row's class."""
        return None if self._labels is None else self._labels[number]

    def size(self, number: int) -> int:
        """Encoded size in bytes."""
        return self._sizes[number] if self._sizes[number] >= 0 else self._path(number).stat().st_size

    def read(self, number: int) -> bytes:
        """The bytes in the row, or of the file that it names."""
        check_size(self.size(number))
        stored = self._rows[number][self._column]
        data: bytes | None = stored["bytes"] if stored else None
        return data if data is not None else self._path(number).read_bytes()

    def _path(self, number: int) -> Path:
        stored = self._rows[number][self._column]
        if not stored or stored["path"] is None:
            raise EmptyImageError("the row holds no image")
        return Path(stored["path"])


def is_saved(folder: Path) -> bool:
    """Whether ``folder`` was written by ``save_to_disk``."""
    return (folder / _SAVED).is_file() or (folder / _SAVED_SPLITS).is_file()


def open_saved(folder: Path) -> HubSource:
    """Open a data set written by ``save_to_disk``.

    Raises:
        DataError: it is damaged, or holds several splits.
    """
    if (folder / _SAVED_SPLITS).is_file():
        splits = sorted(path.name for path in folder.iterdir() if (path / _SAVED).is_file())
        raise DataError(f"{folder} holds the splits {', '.join(splits)}: name one, such as {folder / splits[0]}")
    library = _library()
    try:
        dataset = library.load_from_disk(str(folder))
    except Exception as error:  # the library and Arrow below it raise many kinds
        kind = type(error).__name__
        raise DataError(f"{folder} cannot be opened: the datasets library answers with {kind}") from error
    return HubSource(dataset, folder.resolve().name)


def open_named(spec: str) -> HubSource:
    """Open ``hf:NAME:SPLIT``, from the library's cache or the hub.

    Raises:
        DataError: the name is malformed, or the data set cannot be had.
    """
    name, separator, split = spec.removeprefix(PREFIX).rpartition(":")
    if not (name and separator and split):
        raise DataError(f"{spec}: write hf:NAME:SPLIT, such as hf:owner/flowers:train")
    library = _library()
    try:
        dataset = library.load_dataset(name, split=split)
    except Exception as error:  # network, hub and Arrow raise many kinds
        kind = type(error).__name__
        raise DataError(f"{spec} cannot be opened: the datasets library answers with {kind}") from error
    return HubSource(dataset, f"{name}:{split}")


def _library() -> Any:
    return optional("datasets", "hf", "a Hugging Face data set")


def _sizes(rows: Any, column: str) -> array[int]:
    """Encoded sizes, read from Arrow's offsets; -1 where the row names a file instead."""
    compute = optional("pyarrow.compute", "hf", "a Hugging Face data set")
    sizes = array("q")
    for table in rows.with_format("arrow").iter(batch_size=4096):
        stored = compute.struct_field(table[column], "bytes")
        sizes.extend(compute.fill_null(compute.binary_length(stored), -1).to_pylist())
    return sizes


def _labels(dataset: Any, datasets: Any) -> tuple[list[str | None] | None, tuple[str, ...] | None]:
    for column, kind in dataset.features.items():
        if isinstance(kind, datasets.ClassLabel):
            names = tuple(kind.names)
            # The hub marks the hidden labels of a test split with -1.
            return [None if value is None or value < 0 else names[value] for value in dataset[column]], names
    if not isinstance(dataset.features.get("label"), datasets.Value):
        return None, None
    labels = [None if value is None else str(value) for value in dataset["label"]]
    return labels, natural_order(label for label in labels if label is not None) or None
