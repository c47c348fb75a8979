"""Where results are kept: an in-process LRU, and Redis behind it when it is configured.

Redis is optional at every moment. Each call has a deadline, a fault is a miss and is counted, and
after a few in a row a breaker stops calling for a while.
"""

from __future__ import annotations

import asyncio
import logging
import random
import time
from typing import TYPE_CHECKING, Any, Protocol

import redis.asyncio as redis

from bootleg_service import cache_value
from bootleg_service.cache_layers import LayeredCache
from bootleg_service.errors import StartupError
from bootleg_service.lru import LRU

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray

    from bootleg_service.cache_value import CacheKey
    from bootleg_service.metrics import Metrics
    from bootleg_service.settings import CacheSettings

    Found = list[NDArray[Any] | None]

log = logging.getLogger("bootleg.cache")


class Cache(Protocol):
    """What the pipeline needs of a cache. No method raises."""

    store: str

    async def get(self, keys: Sequence[CacheKey]) -> Found:
        """Look up several results at once."""

    async def put(self, key: CacheKey, value: NDArray[Any]) -> None:
        """Keep one result."""

    async def close(self) -> None:
        """Release connections."""


def build_cache(settings: CacheSettings, metrics: Metrics) -> Cache:
    """The in-process cache, with Redis behind it when its URL is set."""
    memory = MemoryCache(settings.memory_bytes, metrics)
    if settings.redis_url is None:
        return memory
    shared = RedisCache(settings, metrics)
    return LayeredCache(memory, shared) if settings.memory_bytes else shared


class MemoryCache:
    """Least-recently-used results up to a number of bytes."""

    store = "memory"

    def __init__(self, max_bytes: int, metrics: Metrics) -> None:
        self._max_bytes = max_bytes
        self._values: LRU[bytes, NDArray[Any]] = LRU(max_bytes)
        self._counts = _Lookups(metrics, self.store)
        metrics.cache_bytes.set_function(lambda: self._values.bytes)
        metrics.cache_entries.set_function(lambda: len(self._values))

    async def get(self, keys: Sequence[CacheKey]) -> Found:
        """Look up several results at once."""
        found: Found = [self._values.get(key.digest) for key in keys]
        self._counts.add(found)
        return found

    async def put(self, key: CacheKey, value: NDArray[Any]) -> None:
        """Keep one result, forgetting the least recently used ones."""
        if value.nbytes <= self._max_bytes and key.digest not in self._values:
            self._values.put(key.digest, value, value.nbytes)

    async def close(self) -> None:
        """Nothing to release."""


class Breaker:
    """Open after a number of failures in a row; after a while one call tries whether it may close again."""

    def __init__(self, failures: int, seconds: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._limit, self._seconds, self._clock = failures, seconds, clock
        self._failures = 0
        self._open_until = 0.0

    @property
    def failing(self) -> bool:
        """Whether the last call failed."""
        return self._failures > 0

    @property
    def tripped(self) -> bool:
        """Whether it waits for a call that succeeds, be it open or trying."""
        return self._failures >= self._limit

    @property
    def open(self) -> bool:
        """Whether calls are left out now, but for the one that tries."""
        return self.tripped and self._clock() < self._open_until

    def admits(self) -> bool:
        """Whether a call should be made now. While the breaker is open, one call in each period is."""
        if self.open:
            return False
        if self.tripped:
            self._open_until = self._clock() + self._seconds  # others stay out while this one tries
        return True

    def succeeded(self) -> None:
        """Record a success."""
        self._failures = 0

    def failed(self) -> None:
        """Record a failure."""
        self._failures += 1
        if self.tripped:
            self._open_until = self._clock() + self._seconds


class RedisCache:
    """Results shared by all replicas that use one Redis."""

    store = "redis"

    def __init__(self, settings: CacheSettings, metrics: Metrics, client: Any = None) -> None:
        self._settings = settings
        self._metrics = metrics
        self._breaker = Breaker(settings.breaker_failures, settings.breaker_seconds)
        self._client = client or _connect(settings)
        self._counts = _Lookups(metrics, self.store)
        metrics.cache_up.labels(self.store).set_function(lambda: not self._breaker.failing)
        metrics.cache_breaker.labels(self.store).set_function(lambda: self._breaker.tripped)

    async def get(self, keys: Sequence[CacheKey]) -> Found:
        """Look up several results in one round trip; a fault is a miss for all of them."""
        # Shielded: cancelling a command half-way would leave its reply for the next caller to read.
        values = await asyncio.shield(
            self._call("get", self._client.mget, [key.text for key in keys], seconds=self._settings.redis_get_seconds)
        )
        found: Found = [None] * len(keys)
        replies = values if isinstance(values, list) else []  # whatever else may answer at the address
        for i, (key, data) in enumerate(zip(keys, replies, strict=False)):
            if data is None:
                continue
            found[i] = cache_value.unpack(key, data) if isinstance(data, bytes) else None
            if found[i] is None:
                self._metrics.cache_errors.labels(self.store, "junk").inc()
        self._counts.add(found)
        return found

    async def put(self, key: CacheKey, value: NDArray[Any]) -> None:
        """Store one result with an expiry that is jittered, so that a deploy does not expire all at once."""
        seconds = self._settings.redis_ttl_seconds * random.uniform(0.9, 1.0)  # noqa: S311  # no secret depends on it
        await self._call(
            "set",
            self._client.set,
            key.text,
            cache_value.pack(key, value),
            px=max(1, int(seconds * 1000)),
            seconds=self._settings.redis_set_seconds,
        )

    async def close(self) -> None:
        """Close the connections."""
        try:
            await self._client.aclose()
        except (redis.RedisError, OSError) as error:
            log.info("closing the Redis connections: %s", error)

    async def _call(self, kind: str, command: Any, *arguments: Any, seconds: float, **options: Any) -> Any:
        if not self._breaker.admits():
            return None
        try:
            async with asyncio.timeout(seconds):
                answer = await command(*arguments, **options)
        except Exception as error:  # noqa: BLE001  # its parser raises ValueError and others at what is no Redis
            self._breaker.failed()
            self._metrics.cache_errors.labels(self.store, kind).inc()
            log.warning("Redis %s failed: %s: %.200s", kind, type(error).__name__, error)
            return None
        self._breaker.succeeded()
        return answer


def _connect(settings: CacheSettings) -> Any:
    """A client; nothing is sent before it is used."""
    try:
        return redis.from_url(
            settings.redis_url or "",
            socket_timeout=settings.redis_set_seconds,
            socket_connect_timeout=settings.redis_get_seconds,
            retry=None,
        )
    except (ValueError, TypeError):  # not echoed: it may hold a password
        raise StartupError("the Redis URL cannot be used; write redis://[:PASSWORD@]HOST:PORT/DATABASE") from None


class _Lookups:
    """Counts hits and misses of one store."""

    def __init__(self, metrics: Metrics, store: str) -> None:
        self._hits, self._misses = metrics.cache.labels(store, "hit"), metrics.cache.labels(store, "miss")

    def add(self, found: Found) -> None:
        hits = sum(value is not None for value in found)
        self._hits.inc(hits)
        self._misses.inc(len(found) - hits)
