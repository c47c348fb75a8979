"""A small image in base64 (16 x 16 PNG), for the request examples of the OpenAPI document: each of them can be sent."""

from __future__ import annotations

from typing import Final

EXAMPLE_BASE64: Final = (
    "iVBORw0KGgoAAAANSUhEUgAAABAAAAAQCAIAAACQkWg2AAAAJUlEQVR42mNkYEhmgIEABgaCbCYGEgHtNbCgOHBQOGnUD0PUDwCgwgJp9EB1"
    "dAAAAABJRU5ErkJggg=="
)
EXAMPLE_IMAGE: Final = f"data:image/png;base64,{EXAMPLE_BASE64}"
