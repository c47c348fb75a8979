"""A budget for the bodies that the process holds: many of the largest at once must not fill the memory.

Bytes are counted as they arrive and given back when the request has been answered. What a request makes of its body
(files of a form, images out of base64) costs about as much again.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from starlette.datastructures import MutableHeaders

from bootleg_service.errors import OverloadedError

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

    from bootleg_service.metrics import Metrics


class HeldBodies:
    """ASGI middleware that refuses a body which does not fit beside the others.

    Args:
        app: what serves the request; it answers the error that its ``receive`` raises.
        max_bytes: of all bodies together.
        metrics: where they are counted.
    """

    def __init__(self, app: ASGIApp, max_bytes: int, metrics: Metrics) -> None:
        self._app = app
        self._max_bytes = max_bytes
        self._metrics = metrics
        self._held = 0
        metrics.held_bytes.set_function(lambda: self._held)  # asked when it is read, which is seldom

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        own = 0
        refused = False

        async def counted() -> Message:
            nonlocal own, refused
            message = await receive()
            size = len(message.get("body", b""))
            if not size:
                return message
            if self._held + size > self._max_bytes:
                refused = True
                self._metrics.rejected.labels("memory").inc()
                raise OverloadedError(
                    f"the bodies of other requests take {self._held - own:,} bytes; the limit is {self._max_bytes:,}",
                    retry_after=1,
                )
            own += size
            self._held += size
            return message

        async def closing(message: Message) -> None:
            if refused and message["type"] == "http.response.start":
                MutableHeaders(scope=message)["Connection"] = "close"  # the rest of the body is not wanted
            await send(message)

        try:
            await self._app(scope, counted, closing)
        finally:
            self._held -= own
