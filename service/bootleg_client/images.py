"""What a caller may hand over as an image, and its encoded bytes. Files are sent as they are, never decoded here."""

from __future__ import annotations

import io
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
from PIL import Image, ImageOps

from bootleg_client.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Iterable

    from numpy.typing import NDArray

ImageInput: TypeAlias = "str | os.PathLike[str] | bytes | bytearray | memoryview | Image.Image | NDArray[np.uint8]"
"""A path, an encoded file's bytes, a Pillow image, or uint8 pixels ``[h, w]``, ``[h, w, 3]`` or ``[h, w, 4]``."""

PNG_MODES = frozenset({"1", "L", "LA", "P", "RGB", "RGBA", "I;16"})
OPAQUE_MODES = frozenset({"CMYK", "YCbCr", "HSV", "LAB", "RGBX"})
PNG_OVERHEAD = 4096
"""Bytes: headers, and deflate's blocks around pixels that do not compress."""


def listed(images: ImageInput | Iterable[ImageInput]) -> list[ImageInput]:
    """One image or several as a list; an array ``[n, h, w, c]`` is n images.

    Raises:
        InputError: none at all.
    """
    if isinstance(images, str | os.PathLike | bytes | bytearray | memoryview | Image.Image):
        return [images]
    if isinstance(images, np.ndarray) and images.ndim < 4:
        return [images]
    found: list[ImageInput] = list(images)
    if not found:
        raise InputError("images: none were given")
    return found


def size_bound(image: ImageInput) -> int:
    """Bytes that an image will hardly exceed when encoded; nothing is read. 0 when it cannot be known."""
    if isinstance(image, bytes | bytearray | memoryview):
        return len(image)
    if isinstance(image, np.ndarray):
        return image.nbytes + image.nbytes // 100 + PNG_OVERHEAD
    if isinstance(image, Image.Image):
        return image.width * image.height * 4 + PNG_OVERHEAD
    try:
        return Path(image).stat().st_size
    except (OSError, TypeError, ValueError):  # said when the image is read
        return 0


def encoded(image: ImageInput, number: int, max_bytes: int) -> bytes:
    """The bytes to send.

    Args:
        image: see ``ImageInput``; pixels are sent as PNG, which loses nothing.
        number: its place in the call, for errors.
        max_bytes: of an encoded image, by the service.

    Raises:
        InputError: it cannot be read, is too large, or is none of these.
    """
    data = _bytes(image, f"images[{number}]")
    if len(data) > max_bytes:
        raise InputError(f"images[{number}]: {len(data):,} bytes; the service takes {max_bytes:,} bytes an image")
    return data


def _bytes(image: ImageInput, where: str) -> bytes:
    if isinstance(image, bytes | bytearray | memoryview):
        return bytes(image)
    if isinstance(image, np.ndarray):
        return _png(_from_array(image, where))
    if isinstance(image, Image.Image):
        return _png(_plain(image, where))
    if not isinstance(image, str | os.PathLike):
        raise InputError(f"{where}: {type(image).__name__} is no path, bytes, Pillow image or uint8 array")
    if isinstance(image, str) and image[:8].lower().startswith(("http://", "https://", "data:")):
        raise InputError(f"{where}: a URL; images are sent as bytes, so fetch it first")
    try:
        return Path(image).read_bytes()
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else type(error).__name__
        raise InputError(f"{where}: {image} cannot be read: {reason}") from error


def _from_array(array: NDArray[Any], where: str) -> Image.Image:
    good = array.ndim == 2 or (array.ndim == 3 and array.shape[2] in {3, 4})
    if array.dtype != np.uint8 or not good or 0 in array.shape:
        raise InputError(
            f"{where}: an array {array.dtype} {array.shape}; pixels are uint8 [h, w], [h, w, 3] or [h, w, 4]"
        )
    return Image.fromarray(np.ascontiguousarray(array))


def _plain(image: Image.Image, where: str) -> Image.Image:
    """Upright, and in a mode that PNG holds."""
    try:
        upright = ImageOps.exif_transpose(image)
    except Exception as error:  # a file opened lazily is decoded here; a decoder raises anything
        raise InputError(f"{where}: the Pillow image cannot be decoded") from error
    if upright.mode in PNG_MODES:
        return upright
    if upright.mode in OPAQUE_MODES:
        return upright.convert("RGB")
    if upright.mode in {"PA", "La", "RGBa"}:
        return upright.convert("RGBA")
    raise InputError(f"{where}: a Pillow image of mode {upright.mode}; convert it to RGB first")


def _png(image: Image.Image) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, "PNG", compress_level=1)  # a quarter of the default's time for a few per cent more bytes
    return buffer.getvalue()
