"""Odd and hostile images, made in code: the repository holds no third-party files.

Every function returns the bytes of one encoded image. ``ACCEPTED`` and ``REFUSED`` collect one of
each kind by name, for suites that only ask how they are answered.
"""

from __future__ import annotations

import io
import struct
import zlib
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

ORIENTATION = 0x0112
PNG_MAGIC = b"\x89PNG\r\n\x1a\n"
GREY, RGB, PALETTE, GREY_ALPHA, RGBA = 0, 2, 3, 4, 6  # PNG colour types


def scene(height: int = 24, width: int = 32, *, seed: int = 0) -> np.ndarray:
    """A smooth uint8 RGB picture without any symmetry, gentle enough for JPEG."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[0 : 1 : height * 1j, 0 : 1 : width * 1j]
    waves = [np.sin(2 * np.pi * (a * x + b * y + c)) for a, b, c in rng.uniform(-1.2, 1.2, (6, 3))]
    picture = np.stack([waves[2 * i] + waves[2 * i + 1] + x + 2 * y for i in range(3)], axis=2)
    low, high = picture.min(), picture.max()
    return ((picture - low) / (high - low) * 255).round().astype(np.uint8)


def encode(picture: np.ndarray | Image.Image, kind: str, *, orientation: int | None = None, **options: Any) -> bytes:
    """Write ``picture`` in Pillow's format ``kind``."""
    image = picture if isinstance(picture, Image.Image) else Image.fromarray(picture)
    if orientation is not None:
        exif = Image.Exif()
        exif[ORIENTATION] = orientation
        options["exif"] = exif
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def jpeg(picture: np.ndarray | Image.Image | None = None, **options: Any) -> bytes:
    """A JPEG; of :func:`scene` by default."""
    return encode(scene() if picture is None else picture, "JPEG", **{"quality": 95, **options})


def png(picture: np.ndarray | Image.Image | None = None, **options: Any) -> bytes:
    """A PNG written by Pillow."""
    return encode(scene() if picture is None else picture, "PNG", **options)


def webp(picture: np.ndarray | Image.Image | None = None, **options: Any) -> bytes:
    """A WebP; lossless unless told otherwise."""
    return encode(scene() if picture is None else picture, "WEBP", **{"lossless": True, "exact": True, **options})


def chunk(kind: bytes, body: bytes) -> bytes:
    """One PNG chunk."""
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def raw_png(
    width: int, height: int, depth: int, colour_type: int, rows: Iterable[bytes], *extra: tuple[bytes, bytes]
) -> bytes:
    """A PNG from packed rows, for what Pillow does not write: ``extra`` chunks stand before the pixels."""
    header = struct.pack(">IIBBBBB", width, height, depth, colour_type, 0, 0, 0)
    body = zlib.compress(b"".join(b"\0" + row for row in rows), 9)
    chunks = [(b"IHDR", header), *extra, (b"IDAT", body), (b"IEND", b"")]
    return PNG_MAGIC + b"".join(chunk(kind, content) for kind, content in chunks)


def words(*values: int) -> bytes:
    """Big-endian 16-bit values, as PNG stores them."""
    return struct.pack(f">{len(values)}H", *values)


def grey16_png(*values: int) -> bytes:
    """One row of 16-bit grey pixels."""
    return raw_png(len(values), 1, 16, GREY, [words(*values)])


def palette_png(colours: list[tuple[int, int, int]], indices: list[int], alpha: list[int] | None = None) -> bytes:
    """One row of palette pixels; ``alpha`` gives the first colours' opacity."""
    extra = [(b"PLTE", bytes(value for colour in colours for value in colour))]
    if alpha is not None:
        extra.append((b"tRNS", bytes(alpha)))
    return raw_png(len(indices), 1, 8, PALETTE, [bytes(indices)], *extra)


def cmyk_jpeg(cyan: int, magenta: int, yellow: int, black: int) -> bytes:
    """A flat CMYK JPEG."""
    return jpeg(Image.new("CMYK", (16, 16), (cyan, magenta, yellow, black)), quality=100)


def frames(count: int) -> list[Image.Image]:
    """Pictures that all differ, the first being :func:`scene`."""
    return [Image.fromarray(scene(seed=seed)) for seed in range(count)]


def apng(count: int = 2) -> bytes:
    """An animated PNG."""
    first, *rest = frames(count)
    return png(first, save_all=True, append_images=rest)


def animated_webp(count: int = 2) -> bytes:
    """An animated WebP."""
    first, *rest = frames(count)
    return webp(first, save_all=True, append_images=rest)


def mpo() -> bytes:
    """A multi-picture JPEG, as cameras with two lenses write."""
    first, *rest = frames(2)
    return encode(first, "MPO", save_all=True, append_images=rest, quality=95)


def headless_png(width: int, height: int) -> bytes:
    """A PNG that declares any size and holds one byte of pixels."""
    return raw_png(width, height, 8, GREY, [b""])


def bomb_png(side: int) -> bytes:
    """A complete grey PNG of zeros: about a thousandth of its pixels in bytes."""
    return raw_png(side, side, 8, GREY, [bytes(side)] * side)


def resized_jpeg(width: int, height: int) -> bytes:
    """A small JPEG whose header says ``width`` x ``height``."""
    data = bytearray(jpeg())
    at = data.index(b"\xff\xc0") + 5
    data[at : at + 4] = struct.pack(">HH", height, width)
    return bytes(data)


def with_exif_bytes(kind: str, exif: bytes) -> bytes:
    """An image whose metadata block is ``exif``, sense or nonsense."""
    return {"JPEG": jpeg, "PNG": png, "WEBP": webp}[kind](exif=exif)


def _ifd(*entries: bytes) -> bytes:
    return b"Exif\0\0MM\0*\0\0\0\x08" + struct.pack(">H", len(entries)) + b"".join(entries) + b"\0\0\0\0"


def _entry(tag: int, kind: int, count: int, value: bytes) -> bytes:
    return struct.pack(">HHI", tag, kind, count) + value


BROKEN_EXIF = {
    "empty": b"Exif\0\0",
    "noise": b"Exif\0\0" + bytes(range(64)),
    "no byte order": b"Exif\0\0XX\0*\0\0\0\x08",
    "directory outside": b"Exif\0\0MM\0*\xff\xff\xff\xf0",
    "directory in itself": _ifd()[:-4] + b"\0\0\0\x08",
    "more entries than bytes": b"Exif\0\0MM\0*\0\0\0\x08\xff\xff",
    "value outside": _ifd(_entry(ORIENTATION, 2, 1000, b"\xff\xff\xff\0")),
    "unknown type": _ifd(_entry(ORIENTATION, 99, 1, b"\0\6\0\0")),
    "no values": _ifd(_entry(ORIENTATION, 3, 0, b"\0\6\0\0")),
    "text": _ifd(_entry(ORIENTATION, 2, 4, b"up!\0")),
    "ratio by zero": _ifd(_entry(ORIENTATION, 5, 1, b"\0\0\0\x1a")) + bytes(8),
}

ACCEPTED: dict[str, Callable[[], bytes]] = {
    "jpeg": jpeg,
    "jpeg progressive": lambda: jpeg(progressive=True),
    "jpeg grey": lambda: jpeg(Image.fromarray(scene()).convert("L")),
    "jpeg cmyk": lambda: cmyk_jpeg(10, 20, 30, 40),
    "jpeg orientation 6": lambda: jpeg(orientation=6),
    "jpeg with a tail": lambda: jpeg() + b"PK\3\4 and an archive behind it",
    "mpo": mpo,
    "png": png,
    "png 1 bit": lambda: png(Image.fromarray(scene()).convert("1")),
    "png 16 bit": lambda: grey16_png(0, 0x1234, 0xFFFF),
    "png palette": lambda: png(Image.fromarray(scene()).quantize(16)),
    "png alpha": lambda: png(Image.fromarray(scene()).convert("RGBA")),
    "png all transparent": lambda: png(Image.new("RGBA", (8, 8))),
    "png one pixel": lambda: png(scene(1, 1)),
    "png tall": lambda: png(np.zeros((16_384, 1, 3), np.uint8)),
    "png constant": lambda: png(np.full((8, 8, 3), 128, np.uint8)),
    "webp": webp,
    "webp lossy": lambda: webp(lossless=False, quality=80),
    "webp alpha": lambda: webp(Image.fromarray(scene()).convert("RGBA")),
}

REFUSED: dict[str, Callable[[], bytes]] = {
    "nothing": bytes,
    "text": lambda: b"<html>no image</html>",
    "svg": lambda: b"<svg xmlns='http://www.w3.org/2000/svg' width='1' height='1'/>",
    "gif": lambda: encode(Image.fromarray(scene()).quantize(16), "GIF"),
    "bmp": lambda: encode(scene(), "BMP"),
    "tiff": lambda: encode(scene(), "TIFF"),
    "magic alone, jpeg": lambda: b"\xff\xd8\xff",
    "magic alone, png": lambda: PNG_MAGIC,
    "magic alone, webp": lambda: b"RIFF\0\0\0\0WEBP",
    "jpeg half": lambda: jpeg()[: len(jpeg()) // 2],
    "png half": lambda: png()[: len(png()) // 2],
    "webp half": lambda: webp()[: len(webp()) // 2],
    "png that is a jpeg inside": lambda: PNG_MAGIC + jpeg(),
    "apng": apng,
    "webp animated": animated_webp,
    "png of two thousand million pixels": lambda: headless_png(2**31 - 1, 1),
    "png huge": lambda: headless_png(60_000, 60_000),
    "png too wide": lambda: headless_png(16_385, 1),
    "png bomb": lambda: bomb_png(7_100),
    "jpeg huge": lambda: resized_jpeg(65_500, 65_500),
}
