"""How much a key may ask for: a bucket of images that fills up again through the minute.

Only keys from the file have a bucket: nobody can make the table grow.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from bootleg_service.errors import QuotaError

if TYPE_CHECKING:
    from collections.abc import Callable

    from bootleg_service.access.keys import Key


class Quotas:
    """One bucket for each key that has a quota, full at first."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._buckets: dict[str, tuple[float, float]] = {}

    def charge(self, key: Key, images: int) -> None:
        """Take ``images`` from the key's bucket.

        Raises:
            QuotaError: it does not hold that many; nothing is taken.
        """
        quota = key.images_per_minute
        if quota is None:
            return
        now = self._clock()
        filled, since = self._buckets.get(key.name, (float(quota), now))
        filled = min(float(quota), filled + (now - since) * quota / 60)
        self._buckets[key.name] = (filled, now)
        if images > quota:
            raise QuotaError(f"images: {images} at once; the quota of the key {key.name!r} is {quota} a minute")
        if images > filled:
            raise QuotaError(
                f"the quota of the key {key.name!r} is {quota:,} images a minute, and {int(filled)} are left",
                retry_after=(images - filled) * 60 / quota,
            )
        self._buckets[key.name] = (filled - images, now)
