"""Serves the page's files, which lie in ``assets``: read once, named one by one, each with its type and its hash.

They hold nothing of the service or its models, so that they are open even where a server asks for API keys; what the
page shows it asks the API for, with the visitor's key.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from starlette.responses import Response
from starlette.routing import Route

if TYPE_CHECKING:
    from starlette.requests import Request

ASSETS: Final = Path(__file__).with_name("assets")
EXAMPLE: Final = Path(__file__).parents[1] / "example.jpg"
INDEX: Final = "index.html"

TYPES: Final = {
    ".html": "text/html; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
    ".jpg": "image/jpeg",
}

HEADERS: Final = {
    # Nothing from elsewhere, nothing inline, and no text that becomes markup: a file's name cannot run.
    "Content-Security-Policy": "default-src 'self'; img-src 'self' blob:; object-src 'none'; base-uri 'none'; "
    "form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'; trusted-types 'none'",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    # Asked for again each time, and answered with 304: modules of two releases never meet in one browser.
    "Cache-Control": "no-cache",
}


@dataclass(frozen=True)
class PageFile:
    """One file, in memory.

    Attributes:
        path: in the URL.
        content: its bytes.
        media_type: of the content.
        etag: its hash, quoted.
    """

    path: str
    content: bytes
    media_type: str
    etag: str

    async def answer(self, request: Request) -> Response:
        """The file, or 304 when the browser has it."""
        headers = HEADERS | {"ETag": self.etag}
        known = {tag.strip().removeprefix("W/") for tag in request.headers.get("if-none-match", "").split(",")}
        if known & {self.etag, "*"}:
            return Response(status_code=304, headers=headers)
        return Response(self.content, media_type=self.media_type, headers=headers)


def page_files() -> list[PageFile]:
    """Read the page's files: ``/``, and ``/page/NAME`` for what it loads."""
    return [_read(path) for path in (*sorted(ASSETS.iterdir()), EXAMPLE) if path.suffix in TYPES]


def page_routes() -> list[Route]:
    """A route for each file. They are no API routes: not in the OpenAPI document, and no key is asked for."""
    return [Route(file.path, file.answer, methods=["GET"], include_in_schema=False) for file in page_files()]


def _read(path: Path) -> PageFile:
    content = path.read_bytes()
    etag = f'"{hashlib.sha256(content).hexdigest()[:32]}"'
    return PageFile("/" if path.name == INDEX else f"/page/{path.name}", content, TYPES[path.suffix], etag)
