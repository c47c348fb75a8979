"""What replicas that share one Redis may rely on; a real server, and more than one service at it."""

import asyncio
import contextlib
import random
from pathlib import Path

import numpy as np
import pytest
import yaml

from bootleg_bundle.bundle import Bundle
from bootleg_service.cache import RedisCache
from bootleg_service.cache_value import cache_key, pack
from bootleg_service.metrics import Metrics
from bootleg_service.settings import CacheSettings

from .fake_engine import DIM, FakeEngine, embedding_of, fake_bundle
from .pictures import shade, truncated_jpeg
from .redis_server import RedisServer
from .serving import EMBEDDINGS, eventually, serving

pytestmark = pytest.mark.anyio

SHARED = {"cache__redis_get_seconds": 10, "cache__redis_set_seconds": 10, "cache__memory_bytes": 0}


@pytest.fixture
def server(tmp_path):
    server = RedisServer(tmp_path)
    server.start()
    yield server
    server.kill()


def replica(server, engine, **changed):
    return serving(engine, cache__redis_url=server.url, **SHARED | changed)


def holds(server):
    with server.client() as client:
        return client.dbsize()


def commands(server):
    with server.client() as client:
        return {name: stats["calls"] for name, stats in client.info("commandstats").items()}


async def vector(served, number):
    response = await served.embed(shade(number))
    assert response.status_code == 200, response.text
    return np.array(response.json()["data"][0]["embedding"], np.float32), response.headers["x-cache"]


async def test_all_images_of_a_request_are_looked_up_in_one_round_trip(server):
    async with replica(server, FakeEngine()) as served:
        files = [("images", (str(n), shade(n), "image/png")) for n in range(12)]
        assert (await served.client.post(EMBEDDINGS, files=files)).status_code == 200
        assert commands(server)["cmdstat_mget"] == 1
        await eventually(lambda: holds(server) == 12)
        again = await served.client.post(EMBEDDINGS, files=files)
        assert again.headers["x-cache"] == "hit"
        assert commands(server)["cmdstat_mget"] == 2
        assert "cmdstat_get" not in commands(server)


async def test_two_versions_serve_side_by_side_from_one_server_each_its_own_vectors(server):
    class Retrained(FakeEngine):
        def run(self, pixels, outputs):
            return {name: array + 1 for name, array in super().run(pixels, outputs).items()}

    manifest = fake_bundle().manifest
    retrained = Bundle(Path("/nowhere"), manifest.model_copy(update={"embedding_space": "es1-" + "f" * 32}), "cd" * 32)
    async with replica(server, FakeEngine()) as old, replica(server, Retrained(), bundle=retrained) as new:
        for _ in range(2):
            for number in range(5):
                np.testing.assert_array_equal((await vector(old, number))[0], embedding_of(number))
                np.testing.assert_array_equal((await vector(new, number))[0], embedding_of(number) + 1)
            await eventually(lambda: holds(server) == 10)
        assert (await vector(old, 0))[1] == (await vector(new, 0))[1] == "hit"


async def test_equal_images_at_two_replicas_at_once_are_computed_at_most_once_in_each(server):
    first, second = FakeEngine(), FakeEngine()
    async with replica(server, first) as one, replica(server, second) as other:
        await asyncio.gather(*[vector(served, 3) for served in (one, other) for _ in range(50)])
    assert first.numbers in ([], [3])
    assert second.numbers in ([], [3])
    assert first.numbers + second.numbers


async def test_what_failed_is_never_stored_whatever_failed(server):
    engine = FakeEngine()
    engine.nan, engine.poison = {1}, {2}
    async with replica(server, engine) as served:
        for body, status in ((shade(1), 500), (shade(2), 500), (truncated_jpeg(), 422), (b"", 400)):
            for _ in range(2):
                assert (await served.embed(body)).status_code == status
        engine.short = True
        assert (await served.embed(shade(3))).status_code == 500
        engine.short = False
        await vector(served, 4)
        await eventually(lambda: holds(server) == 1)


async def test_expiry_is_spread_over_a_tenth_so_that_a_deploy_does_not_expire_at_once(server):
    async with replica(server, FakeEngine(), cache__redis_ttl_seconds=10_000) as served:
        files = [("images", (str(n), shade(n), "image/png")) for n in range(30)]
        await served.client.post(EMBEDDINGS, files=files)
        await eventually(lambda: holds(server) == 30)
    with server.client() as client:
        left = [client.ttl(key) for key in client.scan_iter()]
    assert max(left) <= 10_000
    assert min(left) > 8_900
    assert max(left) - min(left) > 400


async def test_a_server_that_is_made_a_replica_and_then_the_master_again_is_written_to_again(server):
    changed = {"cache__breaker_seconds": 0.01}
    async with replica(server, FakeEngine(), **changed) as served:
        with server.client() as client:
            client.replicaof("127.0.0.1", 1)
            for number in range(4):
                assert (await vector(served, number))[1] == "miss"
            client.replicaof("NO", "ONE")
        async with asyncio.timeout(30):
            while (await vector(served, 9))[1] != "hit":  # noqa: ASYNC110  # the breaker's pause has no event
                await asyncio.sleep(0.02)


async def test_a_value_of_an_older_schema_at_the_very_key_is_a_miss(server):
    bundle = fake_bundle()
    key = cache_key(
        bundle.manifest.embedding_space, bundle.sha256, bundle.manifest.preprocess.hash, "embedding", shade(1)
    )
    older = b"BLV0" + pack(key, np.ones(DIM, np.float32))[4:]
    with server.client() as client:
        client.set(key.text, older)
    async with replica(server, FakeEngine()) as served:
        np.testing.assert_array_equal((await vector(served, 1))[0], embedding_of(1))


async def test_callers_that_leave_in_the_middle_of_a_look_up_never_shift_a_reply_to_another(server):
    cache = RedisCache(
        CacheSettings(redis_url=server.url, redis_get_seconds=10, redis_set_seconds=10, breaker_failures=1000),
        Metrics(),
    )
    bundle = fake_bundle()
    keys = [cache_key("es1-" + "1" * 32, bundle.sha256, "b" * 64, "embedding", bytes([n])) for n in range(40)]
    for number, key in enumerate(keys):
        await cache.put(key, np.full(3, number, np.float32))
    chance = random.Random(0)
    right = 0
    for _ in range(20):
        wanted = [chance.randrange(40) for _ in range(20)]
        tasks = [asyncio.create_task(cache.get([keys[n]])) for n in wanted]
        for _ in range(chance.randrange(6)):
            await asyncio.sleep(0)
        for task in tasks[::2]:
            task.cancel()
        for number, task in zip(wanted, tasks, strict=True):
            with contextlib.suppress(asyncio.CancelledError):
                (value,) = await task
                assert value is not None
                assert (value == number).all(), "another key's value"
                right += 1
    await cache.close()
    assert right >= 200


def test_the_redis_of_the_compose_file_evicts_and_never_refuses():
    file = Path(__file__).parents[2] / "docker-compose.yml"
    command = yaml.safe_load(file.read_text(encoding="utf-8"))["services"]["redis"]["command"]
    words = command.split() if isinstance(command, str) else command
    assert words[words.index("--maxmemory-policy") + 1].startswith("allkeys-")
    assert words[words.index("--maxmemory") + 1] not in {"0", ""}
    assert words[words.index("--appendonly") + 1] == "no"
