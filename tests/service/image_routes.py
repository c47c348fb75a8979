"""Every way to send images, as the OpenAPI document lists them with an example: a new route cannot be forgotten."""

from __future__ import annotations

import io
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from PIL import Image

from bootleg_service.app import create_app

from .fake_engine import NAME, fake_bundle
from .pictures import shade
from .serving import settings

if TYPE_CHECKING:
    import httpx


@dataclass(frozen=True)
class Way:
    """A route, and a media type that it takes."""

    path: str
    kind: str
    example: Any = None

    async def send(self, client: httpx.AsyncClient, **headers: str) -> httpx.Response:
        """A request that is answered with 200, unless something forbids it."""
        path = self.path.replace("{model}", NAME)
        if self.kind == "application/json":
            return await client.post(path, json=self.example, headers=headers)
        if self.kind == "multipart/form-data":
            return await client.post(path, files={"images": shade(1)}, headers=headers)
        file = io.BytesIO()
        Image.new("RGB", (16, 16)).save(file, self.kind.removeprefix("image/"))
        return await client.post(path, content=file.getvalue(), headers={"Content-Type": self.kind, **headers})


def _ways() -> list[Way]:
    paths = create_app(fake_bundle(), settings()).openapi()["paths"]
    return [
        Way(path, kind, part["schema"].get("example"))
        for path, methods in paths.items()
        for operation in methods.values()
        for kind, part in operation.get("requestBody", {"content": {}})["content"].items()
    ]


WAYS = _ways()
EACH_WAY = {"argvalues": WAYS, "ids": [f"{way.path} {way.kind}" for way in WAYS]}
