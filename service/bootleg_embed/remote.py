"""A running service: encoded images go out in requests as large as it allows, several at a time."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

from bootleg_bundle.errors import ConfigError, EmptyImageError
from bootleg_client import Client, ClientError, Retry
from bootleg_embed.backend import Failure, Output, Served

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

CONCURRENCY = 4
REQUESTS_A_GROUP = 4 * CONCURRENCY
"""The last requests of a group leave connections idle; sixteen make that small."""
LONGEST_WAIT = 5.0
"""Seconds between two attempts, before what the service asks for: four connections are no herd."""
MANY = 100_000
"""Attempts: time ends a request, not their number."""


class RemoteBackend:
    """The service at a URL, pinned to the embedding space that it has now.

    Args:
        url: of the service.
        api_key: or None.
        output: what to compute; the service does not give ``layers``.
        wait_seconds: how long the service may be away.

    Raises:
        ConfigError: an output that the service does not give.
        ClientError: the service cannot be reached, or refuses.
    """

    def __init__(self, url: str, api_key: str | None, output: Output, wait_seconds: float) -> None:
        if output == "layers":
            raise ConfigError("output = layers: not through a service; without --url it is computed here")
        self._patches = output == "patches"
        retry = Retry(attempts=MANY, seconds=wait_seconds, longest_seconds=LONGEST_WAIT)
        with Client(url, api_key=api_key, retry=retry, deadline_seconds=math.inf) as asking:
            info = asking.info()
            models = {model.id: model for model in asking.models()}
        if info.model_id not in models:
            raise ConfigError(f"{url} serves {info.model_id}, but does not list it")
        model = models[info.model_id]
        row = (model.grid.height, model.grid.width, model.dimensions) if self._patches else (model.dimensions,)
        self.served = Served(info.model_id, info.model_sha, info.embedding_space, row)
        self.group = info.max_client_batch_size * REQUESTS_A_GROUP
        self._client = Client(
            url,
            api_key=api_key,
            embedding_space=info.embedding_space,
            priority="bulk",
            retry=retry,
            concurrency=CONCURRENCY,
            deadline_seconds=math.inf,  # a group takes what it takes; each request has its own end
        )

    def prepare(self, data: bytes) -> bytes:
        """The bytes as they are: the service decodes."""
        if not data:
            raise EmptyImageError("the image is empty: 0 bytes")
        return data

    def rows(self, prepared: Sequence[bytes]) -> list[NDArray[Any] | Failure]:
        """Send a group; the client repeats what may pass and names what may not."""
        if not prepared:
            return []
        failures: dict[int, ClientError]
        if self._patches:
            grids = self._client.patches(prepared, on_error="partial")
            found, failures = grids.tokens, dict(grids.failures)
        else:
            vectors = self._client.embed(prepared, on_error="partial")
            found, failures = np.asarray(vectors.vectors), dict(vectors.failures)
        return [
            Failure(failures[number].code, failures[number].message) if number in failures else found[number]
            for number in range(len(prepared))
        ]

    def close(self) -> None:
        """Close the connections."""
        self._client.close()
