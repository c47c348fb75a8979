"""The in-process cache in front of Redis: what this process answered lately costs no round trip.

A result that Redis had is kept in front as well. Both hold results by content, so that neither can be stale.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from bootleg_service.cache import Cache, Found
    from bootleg_service.cache_value import CacheKey


class LayeredCache:
    """Two caches, the quick one asked first; a call asks the slow one once, for all that is missing."""

    def __init__(self, quick: Cache, shared: Cache) -> None:
        self._quick = quick
        self._shared = shared
        self.store = shared.store

    async def get(self, keys: Sequence[CacheKey]) -> Found:
        """Look up several results at once."""
        found = await self._quick.get(keys)
        missing = [i for i, value in enumerate(found) if value is None]
        if missing:
            for i, value in zip(missing, await self._shared.get([keys[i] for i in missing]), strict=True):
                if value is not None:
                    found[i] = value
                    await self._quick.put(keys[i], value)
        return found

    async def put(self, key: CacheKey, value: NDArray[Any]) -> None:
        """Keep one result in both."""
        await self._quick.put(key, value)
        await self._shared.put(key, value)

    async def close(self) -> None:
        """Release what both hold."""
        await self._quick.close()
        await self._shared.close()
