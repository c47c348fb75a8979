"""Clients that hang up, on real sockets: what waited for them is not computed, and nothing of them is left."""

import asyncio
import re

import pytest

from .chaos.requests import post
from .chaos.wire import Message, exchange
from .fake_engine import embedding_of
from .live import live
from .pictures import shade
from .serving import EMBEDDINGS, eventually

pytestmark = pytest.mark.anyio

LEAVING = 100


async def sample(port, pattern):
    reply = await exchange(port, Message("GET", "/metrics"))
    return sum(float(value) for value in re.findall(rf"(?m)^{pattern} (\S+)$", reply.body.decode()))


async def until(port, pattern, value):
    async with asyncio.timeout(60):
        while await sample(port, pattern) != value:  # noqa: ASYNC110  # told from outside: there is no event
            await asyncio.sleep(0.05)


async def test_a_hundred_clients_that_leave_while_the_model_is_busy_cost_no_call_of_it():
    with live(cache__memory_bytes=0) as server:
        port = int(server.host.partition(":")[2])
        server.engine.hold()
        plug = asyncio.create_task(exchange(port, post(EMBEDDINGS, shade(1))))
        await eventually(lambda: server.engine.running == 1)
        gone = [post(EMBEDDINGS, shade(2 + n), leaves="before the answer") for n in range(LEAVING)]
        assert await asyncio.gather(*[exchange(port, message) for message in gone]) == [None] * LEAVING
        await until(port, r'bootleg_requests_total\{outcome="client_closed",route="[^"]+"\}', LEAVING)
        server.engine.release()
        assert (await plug).status == 200
        await until(port, r"bootleg_queue_items", 0)
        await until(port, r"bootleg_decoding", 0)
        assert server.engine.numbers == [1]
        reply = await exchange(port, post(EMBEDDINGS, shade(500)))
        assert reply.status == 200
        assert str(float(embedding_of(500)[0])) in reply.body.decode()
        assert server.engine.numbers == [1, 500]


async def test_an_image_that_another_client_waits_for_too_is_computed_for_that_one():
    with live(cache__memory_bytes=0) as server:
        port = int(server.host.partition(":")[2])
        server.engine.hold()
        plug = asyncio.create_task(exchange(port, post(EMBEDDINGS, shade(1))))
        await eventually(lambda: server.engine.running == 1)
        stays = asyncio.create_task(exchange(port, post(EMBEDDINGS, shade(2))))
        await asyncio.gather(
            *[exchange(port, post(EMBEDDINGS, shade(2), leaves="before the answer")) for _ in range(10)]
        )
        await until(port, r'bootleg_requests_total\{outcome="client_closed",route="[^"]+"\}', 10)
        server.engine.release()
        assert (await stays).status == (await plug).status == 200
        assert server.engine.numbers == [1, 2]
