"""What a pack's images are: uint8 ``[images, side, side, 3]`` that may lie on disk or be decoded when wanted.

Training and probes know :class:`Images` only; an in-memory array, a memory map, shards and a decoder all fit.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray


class Images(Protocol):
    """The part of a NumPy array that readers of images may use."""

    @property
    def shape(self) -> tuple[Any, ...]:
        """``(images, side, side, 3)``."""

    @property
    def dtype(self) -> np.dtype[np.uint8]:
        """Always uint8."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: slice | NDArray[np.int64], /) -> NDArray[np.uint8]:
        """Images by slice or by index array: uint8 ``[picked, side, side, 3]``, in the order asked for."""


class LazyImages(ABC):
    """:class:`Images` on top of one method, :meth:`take`; indexed as a NumPy array is by its first axis.

    Attributes:
        shape: ``(images, side, side, 3)``.
        dtype: uint8.
    """

    dtype: np.dtype[np.uint8] = np.dtype(np.uint8)

    def __init__(self, count: int, side: int) -> None:
        self.shape = (count, side, side, 3)

    @abstractmethod
    def take(self, index: NDArray[np.int64]) -> NDArray[np.uint8]:
        """Images by index, each in [0, images): a new array ``[len(index), side, side, 3]``."""

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, index: int | slice | Sequence[int] | NDArray[np.int64], /) -> NDArray[np.uint8]:
        count = len(self)
        if isinstance(index, slice):
            return self.take(np.arange(*index.indices(count)))
        wanted = np.asarray(index, np.int64)
        if wanted.size and not (-count <= wanted.min() and wanted.max() < count):
            raise IndexError(f"an index outside of {count} images")
        wanted = np.where(wanted < 0, wanted + count, wanted)
        return self.take(wanted) if wanted.ndim else self.take(wanted[None])[0]

    def __array__(self, dtype: np.dtype[Any] | None = None, copy: bool | None = None) -> NDArray[Any]:  # noqa: FBT001
        if copy is False:
            raise ValueError("these images are no array: making one copies them")
        return np.asarray(self[:], dtype)
