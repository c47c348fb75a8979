"""What the service is measured against, each in a process of its own.

    python -m benchmarks.serve_stand_ins empty PORT            a FastAPI route that reads the body and answers
    python -m benchmarks.serve_stand_ins stub PORT A B         the service on an engine that sleeps A + B * n ms

The stub stands for a GPU: it takes its time and leaves the processor alone.
"""

from __future__ import annotations

import sys
import time
from typing import TYPE_CHECKING

import numpy as np
import uvicorn
from fastapi import FastAPI, Request, Response

from bootleg_bundle import default_bundle_path, open_bundle
from bootleg_service.app import create_app
from bootleg_service.settings import CacheSettings, Settings

if TYPE_CHECKING:
    from collections.abc import Iterable

    from numpy.typing import NDArray

ANSWER = bytes(192 * 4)
"""As long as a vector of the default bundle."""


class StubEngine:
    """Sleeps ``fixed + per_image * n`` seconds and answers zeros.

    Attributes:
        device: any batch size runs, as on a CPU.
    """

    device = "cpu"
    precision = "fp32"

    def __init__(self, fixed: float, per_image: float, dim: int) -> None:
        self.providers = ["Stub"]
        self._fixed, self._per_image, self._dim = fixed, per_image, dim

    def run(self, pixels: NDArray[np.uint8], outputs: Iterable[str]) -> dict[str, NDArray[np.float32]]:
        """As :meth:`Engine.run`; embeddings only."""
        time.sleep(self._fixed + self._per_image * len(pixels))
        return {name: np.zeros((len(pixels), self._dim), np.float32) for name in outputs}

    def warm_up(self, batches: Iterable[int]) -> None:
        """Nothing to warm up."""

    def check_golden(self) -> float:
        """Nothing to compare."""
        return 0.0

    def close(self) -> None:
        """Nothing to release."""


def empty() -> FastAPI:
    """One route, which reads the body as the service does, and answers as many bytes."""
    app = FastAPI(openapi_url=None)

    @app.post("/v1/images/embeddings")
    async def read(request: Request) -> Response:
        await request.body()
        return Response(ANSWER, media_type="application/octet-stream")

    @app.get("/health/ready")
    async def ready() -> dict[str, str]:
        return {"status": "ready"}

    return app


def stub(fixed: float, per_image: float) -> FastAPI:
    """The whole service, but for the model."""
    bundle = open_bundle(default_bundle_path())
    engine = StubEngine(fixed, per_image, bundle.manifest.outputs.dim)
    return create_app(bundle, Settings(cache=CacheSettings(memory_bytes=0)), open_model=lambda *_: engine)


def main() -> None:
    """Serve."""
    kind, port, *numbers = sys.argv[1:]
    app = empty() if kind == "empty" else stub(*(float(number) / 1e3 for number in numbers))
    uvicorn.run(app, port=int(port), log_level="warning", access_log=False, server_header=False)


if __name__ == "__main__":
    main()
