import numpy as np
import pytest

from bootleg_service.cache import MemoryCache
from bootleg_service.cache_layers import LayeredCache
from bootleg_service.cache_value import cache_key
from bootleg_service.metrics import Metrics

pytestmark = pytest.mark.anyio

KEYS = [cache_key("es1-" + "0" * 32, "b", "p", "embedding", bytes([i])) for i in range(4)]


class Counting(MemoryCache):
    def __init__(self, size=1000):
        super().__init__(size, Metrics())
        self.asked = []

    async def get(self, keys):
        self.asked.append(list(keys))
        return await super().get(keys)


def value(i):
    return np.full(4, i, np.float32)


@pytest.fixture
def layers():
    return Counting(), Counting()


async def test_what_the_quick_layer_has_is_not_asked_of_the_shared_one(layers):
    quick, shared = layers
    cache = LayeredCache(quick, shared)
    await cache.put(KEYS[0], value(0))
    np.testing.assert_array_equal((await cache.get(KEYS[:1]))[0], value(0))
    assert shared.asked == []


async def test_a_call_asks_the_shared_layer_once_for_all_that_is_missing_and_keeps_what_it_had(layers):
    quick, shared = layers
    cache = LayeredCache(quick, shared)
    await quick.put(KEYS[1], value(1))
    await shared.put(KEYS[0], value(0))
    await shared.put(KEYS[3], value(3))
    found = await cache.get(KEYS)
    assert [None if got is None else got[0] for got in found] == [0, 1, None, 3]
    assert shared.asked == [[KEYS[0], KEYS[2], KEYS[3]]]
    await cache.get([KEYS[0], KEYS[3]])
    assert len(shared.asked) == 1


async def test_a_quick_layer_without_room_hides_nothing(layers):
    _, shared = layers
    cache = LayeredCache(Counting(0), shared)
    await cache.put(KEYS[0], value(0))
    for _ in range(2):
        assert (await cache.get(KEYS[:1]))[0] is not None
