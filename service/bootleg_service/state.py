"""What the routes share: the loaded model and the machinery around it. Built by the app, read by routes."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from bootleg_service.errors import ModelNotFoundError, SpaceMismatchError, UnavailableError

if TYPE_CHECKING:
    from starlette.requests import Request

    from bootleg_bundle import Bundle
    from bootleg_service.batching.batcher import Batcher
    from bootleg_service.canary import Canary
    from bootleg_service.engine import Engine
    from bootleg_service.masks.pool import MaskPool
    from bootleg_service.metrics import Metrics
    from bootleg_service.pipeline import Pipeline
    from bootleg_service.settings import Settings

SPACE_HEADER = "X-Embedding-Space"
STALL_SECONDS = 30.0

_SPACE = re.compile(r"es1-[0-9a-f]{32}(\+[a-z0-9]{1,20}){0,2}")


@dataclass
class Service:
    """One served bundle.

    Attributes:
        ready: warm, golden check passed, not draining.
    """

    bundle: Bundle
    settings: Settings
    metrics: Metrics
    engine: Engine
    batcher: Batcher
    pipeline: Pipeline
    masks: MaskPool
    canary: Canary
    ready: bool = False

    def check_pinned_space(self, request: Request, space: str | None = None) -> None:
        """Refuse a request that pins another embedding space.

        Args:
            request: with the header or without.
            space: that of the answer, where it is not the service's own: a hidden layer's, for one.

        Raises:
            SpaceMismatchError: with the space that is pinned and the one that is served.
        """
        pinned = request.headers.get(SPACE_HEADER)
        served = self.bundle.manifest.embedding_space
        if pinned is None or pinned in {served, space} or (space is None and pinned.startswith(f"{served}+")):
            return
        named = pinned if _SPACE.fullmatch(pinned) else "what is no space's id"
        raise SpaceMismatchError(
            f"{SPACE_HEADER}: the request pins {named}; this service answers in {space or served}", param=SPACE_HEADER
        )

    def check_model(self, name: str | None) -> None:
        """Refuse a model that is not served.

        Raises:
            ModelNotFoundError: with the name of the one that is.
        """
        served = self.bundle.manifest.name
        if name is not None and name != served:
            raise ModelNotFoundError(f"model: not served here; the model served is {served!r}", param="model")


def service_of(request: Request) -> Service:
    """The service behind a request.

    Raises:
        UnavailableError: it is still starting.
    """
    service: Service | None = getattr(request.app.state, "service", None)
    if service is None:
        raise UnavailableError("the service is starting", retry_after=1)
    return service
