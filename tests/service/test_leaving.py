"""Clients that hang up, on real sockets: what waited for them is not computed, and nothing of them is left."""

import asyncio

import pytest
from prometheus_client.parser import text_string_to_metric_families

from .chaos.requests import post
from .chaos.wire import Message, exchange
from .fake_engine import embedding_of
from .live import live
from .pictures import shade
from .serving import EMBEDDINGS, eventually

pytestmark = pytest.mark.anyio

LEAVING = 100


async def sample(port, name, **labels):
    """A metric's value, summed over the labels that are not given."""
    reply = await exchange(port, Message("GET", "/metrics"))
    families = text_string_to_metric_families(reply.body.decode())
    found = (each for family in families for each in family.samples if each.name == name)
    return sum(each.value for each in found if labels.items() <= each.labels.items())


async def until(port, value, name, **labels):
    async with asyncio.timeout(60):
        while await sample(port, name, **labels) != value:  # noqa: ASYNC110  # told from outside: there is no event
            await asyncio.sleep(0.05)


async def test_a_hundred_clients_that_leave_while_the_model_is_busy_cost_no_call_of_it():
    with live(cache__memory_bytes=0) as server:
        port = int(server.host.partition(":")[2])
        server.engine.hold()
        plug = asyncio.create_task(exchange(port, post(EMBEDDINGS, shade(1))))
        await eventually(lambda: server.engine.running == 1)
        gone = [post(EMBEDDINGS, shade(2 + n), leaves="before the answer") for n in range(LEAVING)]
        assert await asyncio.gather(*[exchange(port, message) for message in gone]) == [None] * LEAVING
        await until(port, LEAVING, "bootleg_requests_total", outcome="client_closed")
        server.engine.release()
        assert (await plug).status == 200
        await until(port, 0, "bootleg_queue_items")
        await until(port, 0, "bootleg_decoding")
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
        await until(port, 10, "bootleg_requests_total", outcome="client_closed")
        server.engine.release()
        assert (await stays).status == (await plug).status == 200
        assert server.engine.numbers == [1, 2]
