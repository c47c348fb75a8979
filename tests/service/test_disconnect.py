import asyncio

import pytest
from starlette.requests import ClientDisconnect, Request

from bootleg_service.disconnect import while_connected

pytestmark = pytest.mark.anyio


def request_of(messages: asyncio.Queue) -> Request:
    return Request({"type": "http", "headers": []}, receive=messages.get)


async def test_work_is_cancelled_when_its_client_leaves():
    messages, cancelled = asyncio.Queue(), asyncio.Event()

    async def work():
        try:
            await asyncio.Event().wait()
        finally:
            cancelled.set()

    waiting = asyncio.create_task(while_connected(request_of(messages), work()))
    await asyncio.sleep(0)
    await messages.put({"type": "http.disconnect"})
    with pytest.raises(ClientDisconnect):
        await waiting
    await asyncio.wait_for(cancelled.wait(), 5)


async def test_the_answer_and_the_error_of_work_pass_through():
    async def answer():
        return 7

    async def fail():
        raise KeyError("x")

    assert await while_connected(request_of(asyncio.Queue()), answer()) == 7
    with pytest.raises(KeyError):
        await while_connected(request_of(asyncio.Queue()), fail())
