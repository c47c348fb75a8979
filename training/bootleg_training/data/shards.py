"""The pixels of a pack: ``images-00000.npy`` and on, each memory-mapped and of a bounded size.

``bootleg prepare`` appends image by image, so that memory stays bounded and nothing is rewritten: NumPy
leaves room in the header of an ``.npy`` file for the number of rows, which is known at the end only.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, BinaryIO, Self

import numpy as np

from bootleg_training.data.images import LazyImages

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

SHARD_BYTES = 2**30
MAX_SHARDS = 256
"""Larger sets get larger shards: every one is an open file, and a process commonly may have 1,024."""


def rows_per_shard(images: int, side: int, shard_bytes: int = SHARD_BYTES) -> int:
    """How many images a shard holds, for a set of ``images`` at most."""
    return max(1, shard_bytes // (side * side * 3), -(-images // MAX_SHARDS))


def shard_name(number: int) -> str:
    """The file name of a shard, counted from 0."""
    return f"images-{number:05}.npy"


class ShardWriter:
    """Appends images to the shards in ``folder``; leaving the context finishes and flushes the last one."""

    def __init__(self, folder: Path, side: int, rows: int) -> None:
        self._folder, self._side, self._rows = folder, side, rows
        self._file: BinaryIO | None = None
        self._shards = self._in_shard = 0

    def append(self, image: NDArray[np.uint8]) -> None:
        """Write one image, uint8 ``[side, side, 3]``."""
        assert image.shape == (self._side, self._side, 3)
        assert image.dtype == np.uint8
        if self._file is None:
            self._file = (self._folder / shard_name(self._shards)).open("wb", buffering=2**20)
            self._write_header()
        self._file.write(np.ascontiguousarray(image).data)
        self._in_shard += 1
        if self._in_shard == self._rows:
            self._finish()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._finish()

    def _finish(self) -> None:
        if self._file is None:
            return
        with self._file as file:
            file.seek(0)
            self._write_header()
            file.flush()
            os.fsync(file.fileno())
        self._file, self._in_shard = None, 0
        self._shards += 1

    def _write_header(self) -> None:
        assert self._file is not None
        shape = (self._in_shard, self._side, self._side, 3)
        np.lib.format.write_array_header_1_0(
            self._file,
            {"descr": "|u1", "fortran_order": False, "shape": shape},
        )


class Shards(LazyImages):
    """The images of a pack, memory-mapped across its shards.

    Raises:
        OSError: a shard is missing.
        ValueError: a shard is no array of the expected shape.
    """

    def __init__(self, folder: Path, count: int, side: int, rows: int) -> None:
        super().__init__(count, side)
        self._rows = rows
        self._shards = [
            np.load(folder / shard_name(number), mmap_mode="r", allow_pickle=False)
            for number in range(-(-count // rows))
        ]
        for number, shard in enumerate(self._shards):
            expected = (min(rows, count - number * rows), side, side, 3)
            if shard.shape != expected or shard.dtype != np.uint8:
                raise ValueError(f"{shard_name(number)} holds {shard.dtype} {shard.shape}, not uint8 {expected}")

    def take(self, index: NDArray[np.int64]) -> NDArray[np.uint8]:
        """Copy images out of the maps."""
        number, row = np.divmod(index, self._rows)
        used = np.unique(number)
        if len(used) == 1:
            picked: NDArray[np.uint8] = self._shards[used[0]][row]
            return np.asarray(picked)
        out = np.empty((len(index), *self.shape[1:]), np.uint8)
        for shard in used:
            chosen = number == shard
            out[chosen] = self._shards[shard][row[chosen]]
        return out
