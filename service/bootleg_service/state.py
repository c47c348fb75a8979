"""What the routes share: a loaded model and the machinery around it. Built by ``loading``, found by requests."""

from __future__ import annotations

import asyncio
import logging
import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from bootleg_service.errors import SpaceMismatchError

if TYPE_CHECKING:
    from starlette.requests import Request

    from bootleg_bundle import Bundle
    from bootleg_service.batching.batcher import Batcher
    from bootleg_service.canary import Canary
    from bootleg_service.engine import Engine
    from bootleg_service.masks.pool import MaskPool
    from bootleg_service.metrics import Metrics
    from bootleg_service.models import Models
    from bootleg_service.pipeline import Pipeline
    from bootleg_service.response_cache import ResponseCache
    from bootleg_service.settings import Settings

SPACE_HEADER = "X-Embedding-Space"
HELD: Final = "held"
"""Where a request's state has the models it holds; the edge lets them go."""
CLOSE_SECONDS: Final = 5.0
"""For what the model is computing when it is closed, and nobody waits for any more."""

log = logging.getLogger("bootleg")

_SPACE = re.compile(r"es1-[0-9a-f]{32}(\+[a-z0-9]{1,20}){0,2}")


@dataclass(eq=False)
class Service:
    """One served bundle. Requests hold it from when they find it to their end, so that a reload can wait for them."""

    bundle: Bundle
    settings: Settings
    metrics: Metrics
    engine: Engine
    batcher: Batcher
    pipeline: Pipeline
    masks: MaskPool
    canary: Canary
    responses: ResponseCache
    watches: tuple[asyncio.Task[None], ...] = ()
    holders: int = 0
    _free: asyncio.Event = field(default_factory=asyncio.Event)

    def hold(self) -> None:
        """Begin a request."""
        self.holders += 1

    def let_go(self) -> None:
        """End a request."""
        self.holders -= 1
        if not self.holders:
            self._free.set()

    async def let_go_by_all(self) -> None:
        """Return when no request holds it. For one that new requests do not find any more."""
        while self.holders:
            self._free.clear()
            await self._free.wait()

    async def close(self) -> bool:
        """Finish what is in flight, within a bound, and free the model's memory.

        Returns:
            False if a call of the model goes on: its memory and its thread stay until the process ends.
        """
        for watch in self.watches:
            watch.cancel()
        try:
            async with asyncio.timeout(CLOSE_SECONDS):
                await self.pipeline.close()
                await self.batcher.close()
        except TimeoutError:
            log.critical("%s: a call of the model did not end and is left behind", self.bundle.manifest.name)
            return False
        try:
            self.engine.close()
        except Exception:  # the driver's word on memory that nobody will use
            log.exception("%s: the device did not take its memory back", self.bundle.manifest.name)
        return True

    def answers_in(self, pinned: str, space: str | None = None) -> bool:
        """Whether an answer in ``space``, or else in one of this model's, is what a client has pinned."""
        served = self.bundle.manifest.embedding_space
        return pinned in {served, space} or (space is None and pinned.startswith(f"{served}+"))

    def check_pinned_space(self, request: Request, space: str | None = None) -> None:
        """Refuse a request that pins another embedding space.

        Args:
            request: with the header or without.
            space: that of the answer, where it is not the service's own: a hidden layer's, for one.

        Raises:
            SpaceMismatchError: with the space that is pinned and the one that is served.
        """
        pinned = request.headers.get(SPACE_HEADER)
        if pinned is None or self.answers_in(pinned, space):
            return
        served = self.bundle.manifest.embedding_space
        named = pinned if _SPACE.fullmatch(pinned) else "what is no space's id"
        raise SpaceMismatchError(
            f"{SPACE_HEADER}: the request pins {named}; this service answers in {space or served}", param=SPACE_HEADER
        )


def models_of(request: Request) -> Models:
    """The models of the service behind a request."""
    models: Models = request.app.state.models
    return models


def check_pin_is_served(request: Request) -> None:
    """Refuse a pin that no model here answers in, before the body is read that names the model.

    Raises:
        SpaceMismatchError: with the space that is pinned and the default model's.
    """
    models = models_of(request)
    pinned = request.headers.get(SPACE_HEADER)
    if pinned is not None and not any(service.answers_in(pinned) for service in models.served):
        models.default.check_pinned_space(request)


def service_of(request: Request, model: str | None = None) -> Service:
    """The model that answers a request, which holds it to its end and whose space it names.

    Args:
        request: at hand.
        model: the name it asks for; None: the default one.

    Raises:
        ModelNotFoundError: with the names of those that are served.
        UnavailableError: it is still starting.
    """
    service = models_of(request).find(model)
    held: list[Any] = request.scope.setdefault("state", {}).setdefault(HELD, [])
    if service not in held:
        service.hold()
        held.append(service)
    return service
