"""A real server on a free port, for clients that bring their own HTTP."""

from __future__ import annotations

import contextlib
import threading
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import uvicorn

from bootleg_service.app import create_app

from .fake_engine import FakeEngine, fake_bundle
from .serving import settings

if TYPE_CHECKING:
    from collections.abc import Iterator

    from fastapi import FastAPI


@dataclass
class Live:
    """Where it listens, and what it runs on."""

    host: str
    engine: FakeEngine

    @property
    def url(self) -> str:
        """Its address."""
        return f"http://{self.host}"


@contextlib.contextmanager
def live(**changed: Any) -> Iterator[Live]:
    """Start and stop a server with a fake engine; ``changed`` as in :func:`settings`."""
    engine = FakeEngine()
    app = create_app(fake_bundle(), settings(**changed), open_model=lambda bundle, chosen: engine)
    with listening(app) as host:
        try:
            yield Live(host, engine)
        finally:
            engine.release()


@contextlib.contextmanager
def listening(app: FastAPI) -> Iterator[str]:
    """Start and stop a server of any application: its host and port."""
    server = uvicorn.Server(uvicorn.Config(app, host="127.0.0.1", port=0, log_level="warning", ws="none"))
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    try:
        while not server.started:
            assert thread.is_alive(), "the server did not start"
            time.sleep(0.01)
        port = server.servers[0].sockets[0].getsockname()[1]
        yield f"127.0.0.1:{port}"
    finally:
        server.should_exit = True
        thread.join(30)
