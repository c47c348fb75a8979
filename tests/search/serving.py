"""ASGI applications on free ports: the service with real bundles, and stand-ins of servers that are not here."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any

from bootleg_bundle.bundle import Bundle
from bootleg_service.app import create_app
from tests.service import live
from tests.service.serving import settings

if TYPE_CHECKING:
    from collections.abc import Iterator


@contextlib.contextmanager
def listening(app: Any) -> Iterator[str]:
    """Serve an application; gives its address."""
    with live.listening(app) as host:
        yield f"http://{host}"


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
