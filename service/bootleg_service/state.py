"""What the routes share: the loaded model and the machinery around it. Built by the app, read by routes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from bootleg_service.errors import ModelNotFoundError, SpaceMismatchError, UnavailableError

if TYPE_CHECKING:
    from starlette.requests import Request

    from bootleg_bundle import Bundle
    from bootleg_service.batching.batcher import Batcher
    from bootleg_service.engine import Engine
    from bootleg_service.metrics import Metrics
    from bootleg_service.pipeline import Pipeline
    from bootleg_service.settings import Settings

SPACE_HEADER = "X-Embedding-Space"
STALL_SECONDS = 30.0


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
    ready: bool = False

    def check_pinned_space(self, request: Request) -> None:
        """Refuse a request that pins another embedding space.

        Raises:
            SpaceMismatchError: with the space that is served.
        """
        pinned = request.headers.get(SPACE_HEADER)
        served = self.bundle.manifest.embedding_space
        if pinned is not None and pinned != served:
            raise SpaceMismatchError(f"{SPACE_HEADER}: this service answers in the space {served}", param=SPACE_HEADER)

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
