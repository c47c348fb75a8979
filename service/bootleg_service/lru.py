"""Forgetting what was least recently used. Both caches in the process keep their values here."""

from __future__ import annotations

from collections import OrderedDict
from typing import TYPE_CHECKING, Generic, TypeVar

if TYPE_CHECKING:
    from collections.abc import Hashable

K = TypeVar("K", bound="Hashable")
V = TypeVar("V")


class LRU(Generic[K, V]):
    """Least-recently-used values, up to a number of bytes.

    Args:
        max_bytes: of all of them.

    Attributes:
        bytes: that they have now.
    """

    def __init__(self, max_bytes: int) -> None:
        self.bytes = 0
        self._max_bytes = max_bytes
        self._entries: OrderedDict[K, tuple[V, int]] = OrderedDict()

    def __len__(self) -> int:
        return len(self._entries)

    def __contains__(self, key: K) -> bool:
        return key in self._entries

    def get(self, key: K) -> V | None:
        """A value, which is the most recently used one from now on."""
        entry = self._entries.get(key)
        if entry is None:
            return None
        self._entries.move_to_end(key)
        return entry[0]

    def put(self, key: K, value: V, size: int) -> None:
        """Keep a value of ``size`` bytes under a key that is not here, forgetting the least recently used ones."""
        self._entries[key] = value, size
        self.bytes += size
        while self.bytes > self._max_bytes:
            _, (_, oldest) = self._entries.popitem(last=False)
            self.bytes -= oldest
