"""ASGI applications on free ports: the service with real bundles, and stand-ins of servers that are not here."""

from __future__ import annotations

import contextlib
import threading
import time
from typing import TYPE_CHECKING, Any

import uvicorn

from bootleg_bundle.bundle import Bundle
from bootleg_service.app import create_app
from tests.service.serving import settings

if TYPE_CHECKING:
    from collections.abc import Iterator


@contextlib.contextmanager
def listening(app: Any) -> Iterator[str]:
    """Serve an application; gives its address."""
    server = uvicorn.Server(uvicorn.Config(app, host="127.0.0.1", port=0, log_level="warning", ws="none"))
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    try:
        while not server.started:
            assert thread.is_alive(), "the server did not start"
            time.sleep(0.01)
        yield f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join(30)


@contextlib.contextmanager
def serving(bundle: Bundle, **changed: Any) -> Iterator[str]:
    """The service with a real bundle on one thread; ``changed`` as in ``tests.service.serving.settings``."""
    options = {"engine__device": "cpu", "engine__threads": 1, **changed}
    with listening(create_app(bundle, settings(**options))) as url:
        yield url


def in_another_space(bundle: Bundle) -> Bundle:
    """The same bundle under another space's name: vectors of the same length that must not be mixed with its own."""
    space = "es1-" + "f" * 32
    assert bundle.manifest.embedding_space != space
    return Bundle(bundle.path, bundle.manifest.model_copy(update={"embedding_space": space}), bundle.sha256)
