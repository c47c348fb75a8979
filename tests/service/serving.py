"""A running application with a fake engine, spoken to over ASGI without a socket."""

from __future__ import annotations

import asyncio
import contextlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import httpx

from bootleg_service.app import create_app
from bootleg_service.settings import Settings

from .fake_engine import FakeEngine, fake_bundle

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from fastapi import FastAPI

    from bootleg_bundle import Bundle
    from bootleg_service.cache import Cache
    from bootleg_service.metrics import Metrics
    from bootleg_service.state import Service
    from bootleg_service.telemetry.endings import Tracing

EMBEDDINGS = "/v1/images/embeddings"
PATCHES = "/v1/images/patches"
OPENAI = "/v1/embeddings"


@dataclass
class Served:
    """What a test holds of a running application."""

    app: FastAPI
    client: httpx.AsyncClient
    engine: FakeEngine

    @property
    def service(self) -> Service:
        """The default model."""
        return self.app.state.models.default

    async def embed(self, image: bytes, **options: Any) -> httpx.Response:
        """Send one image."""
        return await self.client.post(EMBEDDINGS, content=image, **options)

    def sample(self, name: str, **labels: str) -> float:
        """A metric's value, summed over the labels that are not given; 0 when it was never touched."""
        return sample(self.service.metrics, name, **labels)


def sample(metrics: Metrics, name: str, **labels: str) -> float:
    """As :meth:`Served.sample`, for metrics alone."""
    found = (each for family in metrics.registry.collect() for each in family.samples if each.name == name)
    return sum(each.value for each in found if labels.items() <= each.labels.items())


def settings(**changed: Any) -> Settings:
    """Settings with some values changed, each as ``concern__field``, two deep at most."""
    fields: dict[str, Any] = {}
    for name, value in changed.items():
        *path, last = name.split("__")
        place = fields
        for part in path:
            place = place.setdefault(part, {})
        place[last] = value
    return Settings.model_validate(fields)


@contextlib.asynccontextmanager
async def serving(
    engine: FakeEngine,
    *,
    cache: Cache | None = None,
    tracing: Tracing | None = None,
    bundle: Bundle | None = None,
    **changed: Any,
) -> AsyncIterator[Served]:
    """Start and stop an application; ``changed`` as in :func:`settings`."""
    chosen, served = settings(**changed), bundle or fake_bundle()
    app = create_app(served, chosen, open_model=lambda bundle, of: engine, cache=cache, tracing=tracing)
    async with app.router.lifespan_context(app):
        transport = httpx.ASGITransport(app, raise_app_exceptions=False)
        async with httpx.AsyncClient(transport=transport, base_url="http://test", timeout=None) as client:
            try:
                yield Served(app, client, engine)
            finally:
                engine.release()


async def eventually(condition: Callable[[], bool], seconds: float = 30) -> None:
    """Let the loop turn until a condition holds."""
    async with asyncio.timeout(seconds):
        while not condition():  # noqa: ASYNC110  # conditions here have no event
            await asyncio.sleep(0.002)


def error_of(response: httpx.Response) -> dict[str, Any]:
    """The error of an envelope, checked for its shape."""
    body = response.json()
    assert list(body) == ["error"]
    error = body["error"]
    assert set(error) == {"message", "type", "param", "code", "request_id"}
    assert error["type"] == ("invalid_request_error" if response.status_code < 500 else "server_error")
    assert error["request_id"] == response.headers["x-request-id"]
    assert isinstance(error["message"], str)
    assert error["message"]
    return error
