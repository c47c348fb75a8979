import asyncio

import numpy as np
import pytest

from bootleg_service.cache import Breaker, MemoryCache, RedisCache, build_cache
from bootleg_service.cache_layers import LayeredCache
from bootleg_service.cache_value import cache_key
from bootleg_service.errors import StartupError
from bootleg_service.metrics import Metrics
from bootleg_service.settings import CacheSettings

from .serving import sample

pytestmark = pytest.mark.anyio


def key(number):
    return cache_key("es1-" + "0" * 32, "a" * 64, "b" * 64, "embedding", bytes([number]))


def value(number):
    return np.full(4, number, np.float32)  # 16 bytes


async def held(cache, numbers):
    found = await cache.get([key(number) for number in numbers])
    return [number for number, value in zip(numbers, found, strict=True) if value is not None]


async def test_what_was_put_is_found_and_the_rest_is_not():
    cache = MemoryCache(100, Metrics())
    await cache.put(key(1), value(1))
    found = await cache.get([key(2), key(1)])
    assert found[0] is None
    np.testing.assert_array_equal(found[1], value(1))


async def test_the_least_recently_used_values_leave_when_the_bytes_are_used_up():
    cache = MemoryCache(3 * 16, Metrics())
    for number in (1, 2, 3):
        await cache.put(key(number), value(number))
    await cache.get([key(1)])
    await cache.put(key(4), value(4))
    assert await held(cache, [1, 2, 3, 4]) == [1, 3, 4]


async def test_the_bytes_kept_never_exceed_the_bound():
    cache = MemoryCache(100, Metrics())
    for number in range(200):
        await cache.put(key(number), np.zeros(1 + number % 20, np.float32))
        kept = sum(value.nbytes for value, _ in cache._values._entries.values())
        assert kept == cache._values.bytes <= 100
    assert cache._values._entries


async def test_a_value_above_the_bound_is_not_kept_and_drives_nothing_out():
    cache = MemoryCache(40, Metrics())
    await cache.put(key(1), value(1))
    await cache.put(key(2), np.zeros(11, np.float32))
    assert await held(cache, [1, 2]) == [1]


async def test_putting_a_value_twice_counts_its_bytes_once():
    cache = MemoryCache(2 * 16, Metrics())
    for _ in range(5):
        await cache.put(key(1), value(1))
    await cache.put(key(2), value(2))
    assert await held(cache, [1, 2]) == [1, 2]


async def test_a_cache_of_no_bytes_keeps_nothing():
    cache = MemoryCache(0, Metrics())
    await cache.put(key(1), value(1))
    assert await held(cache, [1]) == []


async def test_hits_and_misses_are_counted():
    metrics = Metrics()
    cache = MemoryCache(100, metrics)
    await cache.put(key(1), value(1))
    await cache.get([key(1), key(2), key(3)])
    sample = metrics.registry.get_sample_value
    assert sample("bootleg_cache_lookups_total", {"store": "memory", "result": "hit"}) == 1
    assert sample("bootleg_cache_lookups_total", {"store": "memory", "result": "miss"}) == 2


async def test_redis_is_behind_the_memory_when_its_url_is_set_and_alone_when_the_memory_is_off():
    url = "redis://127.0.0.1:1/0"
    for settings, kind in (
        (CacheSettings(redis_url=url), LayeredCache),
        (CacheSettings(redis_url=url, memory_bytes=0), RedisCache),
        (CacheSettings(), MemoryCache),
    ):
        cache = build_cache(settings, Metrics())
        assert isinstance(cache, kind)
        await cache.close()


class Clock:
    now = 100.0

    def __call__(self):
        return self.now


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def breaker(clock):
    return Breaker(failures=3, seconds=5, clock=clock)


def fail(breaker, times):
    for _ in range(times):
        breaker.failed()


def test_a_breaker_opens_after_as_many_failures_in_a_row(breaker):
    fail(breaker, 2)
    assert not breaker.open
    fail(breaker, 1)
    assert breaker.open


def test_a_success_in_between_starts_the_count_again(breaker):
    fail(breaker, 2)
    breaker.succeeded()
    fail(breaker, 2)
    assert not breaker.open


def test_an_open_breaker_lets_one_call_try_in_each_period(breaker, clock):
    fail(breaker, 3)
    clock.now += 4.99
    assert not breaker.admits()
    clock.now += 0.02
    assert [breaker.admits() for _ in range(3)] == [True, False, False]
    clock.now += 5
    assert [breaker.admits() for _ in range(3)] == [True, False, False]


def test_the_call_that_tries_closes_it_for_good_or_opens_it_again(breaker, clock):
    fail(breaker, 3)
    clock.now += 6
    assert breaker.admits()
    fail(breaker, 1)
    assert breaker.open
    clock.now += 6
    assert breaker.admits()
    breaker.succeeded()
    fail(breaker, 2)
    assert not breaker.open
    assert breaker.admits()


class ScriptedClient:
    """A Redis client that hangs, fails or answers."""

    def __init__(self, behaviour):
        self.behaviour = behaviour
        self.calls = 0

    async def mget(self, keys):
        self.calls += 1
        return await self.behaviour(keys)

    async def set(self, *arguments, **options):
        self.calls += 1
        await self.behaviour([])

    async def aclose(self):
        pass


def scripted(behaviour, **settings):
    client = ScriptedClient(behaviour)
    chosen = CacheSettings(**{"redis_get_seconds": 0.02, "redis_set_seconds": 0.02, "breaker_seconds": 3600} | settings)
    return RedisCache(chosen, Metrics(), client), client


async def test_look_ups_and_stores_that_hang_are_misses_and_open_the_breaker():
    async def hang(keys):
        await asyncio.Event().wait()

    cache, client = scripted(hang)
    for _ in range(10):
        assert await cache.get([key(1), key(2)]) == [None, None]
        await cache.put(key(1), value(1))
    assert client.calls == 3


async def test_whether_the_shared_cache_answers_is_in_the_metrics():
    well = True

    async def answer(keys):
        if not well:
            raise ConnectionError
        return [None]

    cache, _ = scripted(answer, breaker_failures=2, breaker_seconds=1e-9)

    def state():
        return [sample(cache._metrics, f"bootleg_cache_{name}", store="redis") for name in ("up", "breaker_open")]

    assert state() == [1, 0]
    well = False
    await cache.get([key(1)])
    assert state() == [0, 0]
    await cache.get([key(1)])
    assert state() == [0, 1]
    well = True
    await cache.get([key(1)])
    assert state() == [1, 0]


async def test_a_process_without_a_shared_cache_has_no_state_of_one():
    metrics = Metrics()
    build_cache(CacheSettings(), metrics)
    assert b"bootleg_cache_up{" not in metrics.render()


@pytest.mark.parametrize("answer", [[], [None], None])
async def test_a_reply_with_too_few_values_is_a_miss_for_the_rest(answer):
    async def reply(keys):
        return answer

    cache, _ = scripted(reply)
    assert await cache.get([key(1), key(2)]) == [None, None]


@pytest.mark.parametrize("answer", [5, True, "text", b"bytes", [5, 5], [[b"nested"], "text"], {b"a": b"b"}])
async def test_a_reply_that_no_redis_gives_is_a_miss(answer):
    async def reply(keys):
        return answer

    cache, _ = scripted(reply)
    assert await cache.get([key(1), key(2)]) == [None, None]


@pytest.mark.parametrize("fault", [ValueError, TypeError, IndexError, RecursionError, MemoryError])
async def test_whatever_the_client_raises_at_what_is_no_redis_is_a_counted_miss(fault):
    async def reply(keys):
        raise fault

    cache, _ = scripted(reply)
    assert await cache.get([key(1)]) == [None]
    assert sample(cache._metrics, "bootleg_cache_errors_total", store="redis", kind="get") == 1


async def test_leaving_a_look_up_does_not_cancel_the_command_whose_reply_is_under_way():
    ended: asyncio.Future[str] = asyncio.get_running_loop().create_future()

    async def slow(keys):
        try:
            await asyncio.sleep(0.05)
        except asyncio.CancelledError:
            ended.set_result("cancelled")
            raise
        ended.set_result("finished")
        return [None]

    cache, _ = scripted(slow, redis_get_seconds=30)
    task = asyncio.create_task(cache.get([key(1)]))
    await asyncio.sleep(0.01)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    assert await ended == "finished"


async def test_values_expire_within_a_tenth_before_the_time_set():
    class Recorder(ScriptedClient):
        async def set(self, name, data, *, px):
            lives.append(px)

    lives = []
    cache = RedisCache(CacheSettings(redis_ttl_seconds=1000), Metrics(), Recorder(None))
    for number in range(50):
        await cache.put(key(number), value(number))
    assert all(900_000 <= life <= 1_000_000 for life in lives)
    assert len(set(lives)) > 10


@pytest.mark.parametrize("url", ["nonsense", "", "redis://localhost:abc", "http://x"])
def test_a_redis_url_that_cannot_be_used_stops_the_start_without_echoing_it(url):
    with pytest.raises(StartupError, match="Redis URL") as caught:
        build_cache(CacheSettings(redis_url=url), Metrics())
    assert not url or url not in caught.value.message
