"""Work that nobody waits for any more is not done."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, TypeVar

from starlette.requests import ClientDisconnect

if TYPE_CHECKING:
    from collections.abc import Coroutine

    from starlette.requests import Request

T = TypeVar("T")


async def while_connected(request: Request, work: Coroutine[Any, Any, T]) -> T:
    """Await ``work``, and cancel it when the client leaves. Call it when the body has been read.

    Raises:
        ClientDisconnect: the client left first.
    """
    watch = _Watch(request)
    # From the loop's next turn on: an answer that needs no waiting, out of the cache, is not watched at all.
    begin = asyncio.get_running_loop().call_soon(watch.begin)
    try:
        return await work
    except asyncio.CancelledError:
        if watch.client_left:
            raise ClientDisconnect from None
        raise
    finally:
        begin.cancel()
        watch.end()


class _Watch:
    """Cancels the task that made it when the client leaves."""

    def __init__(self, request: Request) -> None:
        self._request = request
        self._worker: asyncio.Task[Any] | None = asyncio.current_task()
        self._watcher: asyncio.Task[None] | None = None
        self.client_left = False

    def begin(self) -> None:
        self._watcher = asyncio.get_running_loop().create_task(self._watch())

    async def _watch(self) -> None:
        while (await self._request.receive())["type"] != "http.disconnect":
            pass
        assert self._worker is not None
        self.client_left = True
        self._worker.cancel()

    def end(self) -> None:
        if self._watcher is not None:
            self._watcher.cancel()
        if self.client_left and self._worker is not None:
            self._worker.uncancel()
