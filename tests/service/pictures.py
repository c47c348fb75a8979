"""Images made in code. A shade is a plain image whose number survives decoding and resizing."""

from __future__ import annotations

import io
import struct
import zlib

import numpy as np
from PIL import Image

SIDE = 32


def shade(number: int) -> bytes:
    """PNG of one colour; :func:`number_of` reads the number back from its pixels."""
    return encode(shade_pixels(number), "PNG")


def shade_pixels(number: int) -> np.ndarray:
    """The pixels of :func:`shade`."""
    return np.full((SIDE, SIDE, 3), (number % 256, number // 256, 7), np.uint8)


def number_of(pixels: np.ndarray) -> int:
    """The number of a shade."""
    return int(pixels[0, 0, 0]) + 256 * int(pixels[0, 0, 1])


def photo(seed: int = 0, *, width: int = 80, height: int = 60, kind: str = "JPEG") -> bytes:
    """A detailed image of any size."""
    rng = np.random.default_rng(seed)
    coarse = Image.fromarray(rng.integers(0, 256, (6, 8, 3), np.uint8))
    return encode(np.asarray(coarse.resize((width, height), Image.Resampling.BICUBIC)), kind)


def encode(pixels: np.ndarray, kind: str) -> bytes:
    """An image file."""
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, kind, quality=95)
    return file.getvalue()


def truncated_jpeg() -> bytes:
    """The first half of a photograph."""
    whole = photo()
    return whole[: len(whole) // 2]


def huge_png(width: int = 10_000, height: int = 10_000) -> bytes:
    """A few bytes whose header declares 100 megapixels."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"\0")) + chunk(b"IEND", b"")
