"""The Redis cache against a real server in every state a server can be in: each fault is a miss, no more."""

import asyncio

import numpy as np
import pytest

from bootleg_service.cache import RedisCache
from bootleg_service.cache_value import cache_key
from bootleg_service.metrics import Metrics
from bootleg_service.settings import CacheSettings

from .fake_engine import FakeEngine, embedding_of, fake_bundle
from .pictures import shade
from .redis_server import RedisServer
from .serving import eventually, serving

pytestmark = pytest.mark.anyio

PATIENT = {"cache__redis_get_seconds": 10, "cache__redis_set_seconds": 10, "cache__memory_bytes": 0}  # Redis alone


@pytest.fixture
def server(tmp_path):
    server = RedisServer(tmp_path)
    server.start()
    yield server
    server.kill()


def key_of(image):
    bundle = fake_bundle()
    space, preprocess = bundle.manifest.embedding_space, bundle.manifest.preprocess.hash
    return cache_key(space, bundle.sha256, preprocess, "embedding", image)


def with_redis(engine, server, **changed):
    return serving(engine, cache__redis_url=server.url, **PATIENT | changed)


async def asked(served, number):
    """Embed a shade, whatever its cache does; returns what the cache did."""
    response = await served.embed(shade(number))
    assert response.status_code == 200, response.text
    np.testing.assert_array_equal(np.array(response.json()["data"][0]["embedding"], "f4"), embedding_of(number))
    return response.headers["x-cache"]


async def stored(server, number):
    text = key_of(shade(number)).text
    await eventually(lambda: server.holds(text))


async def hit_again(served, number):
    async with asyncio.timeout(30):
        while await asked(served, number) != "hit":  # noqa: ASYNC110  # the breaker's pause has no event
            await asyncio.sleep(0.02)


def faults(served, kind):
    return served.sample("bootleg_cache_errors_total", store="redis", kind=kind)


async def test_an_answer_is_kept_and_found_by_another_replica(server):
    first, second = FakeEngine(), FakeEngine()
    async with with_redis(first, server) as one, with_redis(second, server) as other:
        assert await asked(one, 1) == "miss"
        await stored(server, 1)
        assert await asked(other, 1) == "hit"
    assert (first.numbers, second.numbers) == ([1], [])


async def test_what_is_stored_expires(engine, server):
    async with with_redis(engine, server, cache__redis_ttl_seconds=1000) as served:
        await asked(served, 1)
        await stored(server, 1)
    with server.client() as client:
        assert 800 < client.ttl(key_of(shade(1)).text) <= 1000


async def test_a_server_absent_at_the_start_is_used_when_it_appears(engine, tmp_path):
    late = RedisServer(tmp_path)
    async with with_redis(engine, late, cache__breaker_seconds=0.01) as served:
        for number in range(5):
            assert await asked(served, number) == "miss"
        assert faults(served, "get") >= 1
        late.start()
        try:
            await hit_again(served, 1)
        finally:
            late.kill()


async def test_a_frozen_server_is_left_alone_after_a_few_deadlines(engine, server):
    changed = {"cache__redis_get_seconds": 0.05, "cache__redis_set_seconds": 0.05, "cache__breaker_seconds": 3600}
    async with with_redis(engine, server, **changed) as served:
        cache = served.service.pipeline._cache
        calls = []
        for name in ("mget", "set"):
            genuine = getattr(cache._client, name)
            setattr(cache._client, name, lambda *a, _call=genuine, **k: calls.append(1) or _call(*a, **k))
        server.freeze()
        number = 0
        while not cache._breaker.open:
            assert await asked(served, number) == "miss"
            number += 1
        assert number <= 3
        await eventually(lambda: not served.service.pipeline._tasks)
        made = len(calls)
        assert made <= 6  # a look-up and a store for each of at most three requests
        for number in range(100, 110):
            assert await asked(served, number) == "miss"
        assert len(calls) == made


async def test_a_thawed_server_is_used_again(engine, server):
    changed = {"cache__redis_get_seconds": 0.2, "cache__redis_set_seconds": 0.2, "cache__breaker_seconds": 0.01}
    async with with_redis(engine, server, **changed) as served:
        await asked(served, 1)
        await stored(server, 1)
        server.freeze()
        assert await asked(served, 1) == "miss"
        server.thaw()
        await hit_again(served, 1)


async def test_a_reply_that_comes_after_its_deadline_is_not_taken_for_the_next_one(server):
    settings = CacheSettings(redis_url=server.url, redis_get_seconds=0.1, redis_set_seconds=10, breaker_failures=1000)
    cache = RedisCache(settings, Metrics())
    keys = [key_of(bytes([number])) for number in range(20)]
    for number, key in enumerate(keys):
        await cache.put(key, np.full(3, number, np.float32))
    server.freeze()
    late = await cache.get([keys[0]])
    server.thaw()
    assert late == [None]
    read = [(await cache.get([key]))[0] for key in keys]
    await cache.close()
    for number, value in enumerate(read):
        assert value is None or (value == number).all()
    assert any(value is not None for value in read)


async def test_a_killed_server_costs_its_hits_and_nothing_else(engine, server):
    async with with_redis(engine, server) as served:
        await asked(served, 1)
        await stored(server, 1)
        assert await asked(served, 1) == "hit"
        server.kill()
        for number in (1, 2, 3, 4, 5):
            assert await asked(served, number) == "miss"
        assert faults(served, "get") >= 1


@pytest.mark.parametrize("url", ["redis://127.0.0.1:{port}/0", "redis://:wrong@127.0.0.1:{port}/0"])
async def test_a_wrong_or_missing_password_is_no_cache(engine, tmp_path, url):
    locked = RedisServer(tmp_path, password="right")
    locked.start()
    try:
        async with serving(engine, cache__redis_url=url.format(port=locked.port), **PATIENT) as served:
            for _ in range(3):
                assert await asked(served, 1) == "miss"
            assert faults(served, "get") >= 1
        assert not locked.holds(key_of(shade(1)).text)
    finally:
        locked.kill()


async def test_the_right_password_is_used(engine, tmp_path):
    locked = RedisServer(tmp_path, password="right")
    locked.start()
    try:
        url = f"redis://:right@127.0.0.1:{locked.port}/0"
        async with serving(engine, cache__redis_url=url, **PATIENT) as served:
            await asked(served, 1)
            await stored(locked, 1)
            assert await asked(served, 1) == "hit"
    finally:
        locked.kill()


async def test_a_value_of_another_type_at_the_key_is_a_miss(engine, server):
    with server.client() as client:
        client.lpush(key_of(shade(1)).text, "somebody", "else")
    async with with_redis(engine, server) as served:
        assert await asked(served, 1) == "miss"


@pytest.mark.parametrize("junk", [b"", b"junk", b"BLV1f4" + bytes(60), b"\x80\x04N."])
async def test_junk_at_the_key_is_a_counted_miss_and_is_replaced(engine, server, junk):
    text = key_of(shade(1)).text
    with server.client() as client:
        client.set(text, junk)
        async with with_redis(engine, server) as served:
            assert await asked(served, 1) == "miss"
            assert faults(served, "junk") == 1
            await eventually(lambda: client.get(text) != junk)
            assert await asked(served, 1) == "hit"


async def test_the_value_of_another_image_at_the_key_is_a_miss_and_not_its_vector(engine, server):
    async with with_redis(engine, server) as served:
        await asked(served, 1)
        await stored(server, 1)
        with server.client() as client:
            client.set(key_of(shade(2)).text, client.get(key_of(shade(1)).text))
        assert await asked(served, 2) == "miss"


async def test_a_full_server_that_evicts_nothing_is_a_cache_that_keeps_nothing_new(engine, server):
    async with with_redis(engine, server) as served:
        await asked(served, 1)
        await stored(server, 1)
        with server.client() as client:
            client.config_set("maxmemory-policy", "noeviction")
            client.config_set("maxmemory", 1)
        assert await asked(served, 1) == "hit"
        assert await asked(served, 2) == "miss"
        await eventually(lambda: faults(served, "set") == 1)
        assert await asked(served, 2) == "miss"


async def test_a_read_only_server_still_gives_what_it_has(engine, server):
    async with with_redis(engine, server) as served:
        await asked(served, 1)
        await stored(server, 1)
        with server.client() as client:
            client.replicaof("127.0.0.1", 1)
        assert await asked(served, 1) == "hit"
        assert await asked(served, 2) == "miss"
        await eventually(lambda: faults(served, "set") == 1)


async def test_a_flushed_server_is_filled_again(engine, server):
    async with with_redis(engine, server) as served:
        await asked(served, 1)
        await stored(server, 1)
        with server.client() as client:
            client.flushall()
        assert await asked(served, 1) == "miss"
        await stored(server, 1)
        assert await asked(served, 1) == "hit"


async def test_two_bundles_share_a_server_without_reading_each_others_values(server):
    cache = RedisCache(CacheSettings(redis_url=server.url, redis_get_seconds=10, redis_set_seconds=10), Metrics())
    one = cache_key("es1-" + "1" * 32, "a" * 64, "b" * 64, "embedding", shade(1))
    rebuilt = cache_key("es1-" + "1" * 32, "c" * 64, "b" * 64, "embedding", shade(1))
    await cache.put(one, embedding_of(1))
    found = await cache.get([one, rebuilt])
    await cache.close()
    assert found[0] is not None
    assert found[1] is None


async def test_closing_without_a_server_raises_nothing(tmp_path):
    cache = RedisCache(CacheSettings(redis_url=RedisServer(tmp_path).url), Metrics())
    await cache.get([key_of(b"x")])
    await cache.close()


async def test_the_memory_in_front_answers_while_the_server_is_away(engine, server):
    async with with_redis(engine, server, cache__memory_bytes=2**20) as served:
        await served.embed(shade(1))
        server.kill()
        again = await served.embed(shade(1))
    assert again.headers["X-Cache"] == "hit"
    assert engine.numbers == [1]
