"""The real application with a fake engine, on a real socket, with faults before it as a test scripts them."""

from __future__ import annotations

import asyncio
import contextlib
import json
import threading
import time

import uvicorn

from bootleg_service.app import create_app
from tests.service.fake_engine import FakeEngine, fake_bundle
from tests.service.serving import settings


def envelope(code, *, param=None):
    """An error's body, as the service writes it."""
    error = {"message": f"scripted {code}", "type": "x", "param": param, "code": code, "request_id": "r-1"}
    return json.dumps({"error": error}).encode()


class Faults:
    """ASGI middleware that answers in the application's place.

    Attributes:
        script: functions of (scope, receive, send) that take the next POSTs, in turn.
        key: when set, requests without this bearer token get 401.
        hidden: paths that are 404.
        seen: headers of every request, by lower-case name, with ``path``.
        busy: the largest number of POSTs at the same time.
    """

    def __init__(self, app):
        self._app = app
        self.script = []
        self.key = None
        self.hidden = set()
        self.seen = []
        self.busy = self._now = 0

    async def __call__(self, scope, receive, send):
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = {name.decode(): value.decode() for name, value in scope["headers"]}
        self.seen.append({**headers, "path": scope["path"], "query": scope["query_string"].decode()})
        if scope["path"] in self.hidden:
            await answer(404, b"nothing")(scope, receive, send)
        elif self.key is not None and headers.get("authorization") != f"Bearer {self.key}":
            await answer(401, envelope("unauthorized"))(scope, receive, send)
        elif scope["method"] == "POST":
            await self._post(scope, receive, send)
        else:
            await self._app(scope, receive, send)

    @property
    def posts(self):
        """Requests that carried images."""
        return [request for request in self.seen if request["path"].startswith("/v1/images/")]

    async def _post(self, scope, receive, send):
        self._now += 1
        self.busy = max(self.busy, self._now)
        try:
            await (self.script.pop(0) if self.script else self._app)(scope, receive, send)
        finally:
            self._now -= 1


def answer(status, body=b"", **headers):
    """A step of a script: this answer."""

    async def step(scope, receive, send):
        more = [(name.replace("_", "-").encode(), str(value).encode()) for name, value in headers.items()]
        await send({"type": "http.response.start", "status": status, "headers": more})
        await send({"type": "http.response.body", "body": body})

    return step


async def half_an_answer(scope, receive, send):
    """A step of a script: the connection breaks in the middle of an answer."""
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"1000")]})
    await send({"type": "http.response.body", "body": b"half", "more_body": True})
    raise ConnectionAbortedError


async def silence(scope, receive, send):
    """A step of a script: no answer for a long while."""
    await asyncio.sleep(30)


@contextlib.contextmanager
def listening(engine=None, **changed):
    """A service on a port of its own; gives its address and its :class:`Faults`."""
    app = create_app(fake_bundle(), settings(**changed), open_model=lambda *_: engine or FakeEngine())
    faults = Faults(app)
    server = uvicorn.Server(
        uvicorn.Config(faults, port=0, log_level="critical", lifespan="on", timeout_graceful_shutdown=0)
    )
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        while not server.started:
            assert thread.is_alive(), "the service did not start"
            time.sleep(0.005)
        port = server.servers[0].sockets[0].getsockname()[1]
        yield f"http://127.0.0.1:{port}", faults
    finally:
        server.should_exit = True
        thread.join()
