"""Untrusted bytes to an upright RGB array: the only image decoder in the project.

Training, probes, export and the service all call :func:`decode`. It accepts a closed list of
formats, recognised by content; it compares every limit with the header before a pixel is decoded;
it never applies colour profiles and never returns part of an image.

Written rules, all part of ``DECODER_VERSION`` (which enters the preprocessing hash):

=====================  ==========================================================================
input                  result
=====================  ==========================================================================
orientation tag 1-8    applied once, here; any other value, or unreadable metadata, means upright
alpha, or a colour     composited over white; a 16-bit key is compared by its high bytes
key (``tRNS``)
palette                expanded to its colours (then alpha as above)
1-bit and grey         the grey value in all three channels
16-bit per channel     the high byte of each value
CMYK, YCCK             Pillow's profile-free conversion to RGB
colour profile         ignored
animation              refused when it has more frames than ``ImageLimits.max_frames``
multi-picture JPEG     the first picture, which is the photograph
=====================  ==========================================================================
"""

from __future__ import annotations

import io
from typing import TYPE_CHECKING, Final

import numpy as np
from PIL import Image, ImageFile, UnidentifiedImageError
from pydantic import BaseModel, ConfigDict, Field

from bootleg_bundle.errors import (
    CorruptImageError,
    EmptyImageError,
    ImageError,
    ImageFormatError,
    ImageLimitError,
)

if TYPE_CHECKING:
    from numpy.typing import NDArray

DECODER_VERSION: Final = 1
"""Raise when a rule of the module docstring changes: vectors stop being comparable."""

FORMATS: Final = ("JPEG", "PNG", "WEBP")
MEDIA_TYPES: Final = {"JPEG": "image/jpeg", "PNG": "image/png", "WEBP": "image/webp"}

_ORIENTATION_TAG = 0x0112
_JPEG_SCAN = b"\xff\xda"  # stuffing keeps it out of the compressed data
_PNG_END = b"IEND\xaeB`\x82"
_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_TURNED = {_UPRIGHT[tag] for tag in (5, 6, 7, 8)}


class ImageLimits(BaseModel):
    """What one image may cost, checked against its header before decoding.

    Raises:
        pydantic.ValidationError: a limit is not positive.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    max_bytes: int = Field(10 * 2**20, gt=0, description="encoded size in bytes")
    max_side: int = Field(16_384, gt=0, description="longest side in pixels")
    max_pixels: int = Field(50_000_000, gt=0, description="width times height")
    max_frames: int = Field(1, gt=0, description="frames of an animated file")
    max_scans: int = Field(64, gt=0, description="scans of a progressive JPEG; each costs a pass over all pixels")


DEFAULT_LIMITS: Final = ImageLimits()


def sniff(data: bytes) -> str:
    """Name the format of ``data`` by its first bytes.

    Returns:
        One of ``FORMATS``.

    Raises:
        EmptyImageError: ``data`` is empty.
        ImageFormatError: the content is none of ``FORMATS``.
    """
    if not data:
        raise EmptyImageError("the image is empty: 0 bytes were received")
    if data.startswith(b"\xff\xd8\xff"):
        return "JPEG"
    if data.startswith(b"\x89PNG\r\n\x1a\n"):
        return "PNG"
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        return "WEBP"
    raise ImageFormatError(f"the content is no accepted image format; accepted: {', '.join(FORMATS)}")


def decode(data: bytes, limits: ImageLimits = DEFAULT_LIMITS) -> NDArray[np.uint8]:
    """Decode one image to upright 8-bit RGB.

    Args:
        data: the encoded file, whole.
        limits: bounds on what the image may cost.

    Returns:
        A C-contiguous ``uint8`` array ``[height, width, 3]``.

    Raises:
        EmptyImageError: no bytes.
        ImageFormatError: the content is none of ``FORMATS``.
        ImageLimitError: a limit is exceeded; nothing was decoded.
        CorruptImageError: the content is truncated or cannot be decoded.
    """
    kind = sniff(data)
    if len(data) > limits.max_bytes:
        raise ImageLimitError(f"the image has {len(data):,} bytes; the limit is {limits.max_bytes:,} bytes")
    if kind == "JPEG" and (scans := data.count(_JPEG_SCAN)) > limits.max_scans:
        raise ImageLimitError(f"the JPEG image has {scans:,} scans; the limit is {limits.max_scans}")
    if kind == "PNG" and data.rfind(_PNG_END) < 0:  # Pillow stops reading when it has all the pixels
        raise CorruptImageError("the PNG image is truncated: its end marker is missing")
    # Truncated files must fail rather than come out half grey; any imported library may flip this switch.
    assert not ImageFile.LOAD_TRUNCATED_IMAGES, "PIL.ImageFile.LOAD_TRUNCATED_IMAGES must stay off"
    try:
        # A decoder fed hostile bytes raises anything (OSError, SyntaxError, struct.error, KeyError, ...):
        # every one of them means the same to the caller.
        with Image.open(io.BytesIO(data), formats=[kind]) as image:
            _check_header(image, limits)
            key = _colour_key(image)  # before the metadata: reading that can load the pixels and forget their depth
            orientation = _orientation(image)
            rgb = _to_rgb(image, key)
    except ImageError:
        raise
    except MemoryError:
        raise ImageLimitError(f"decoding the {kind} image takes more memory than may be had for it") from None
    except (Image.DecompressionBombError, Image.DecompressionBombWarning):
        raise ImageLimitError(
            f"the {kind} image declares more pixels than the limit of {limits.max_pixels:,}"
        ) from None
    except UnidentifiedImageError:
        raise CorruptImageError(f"the {kind} header is damaged") from None
    except Exception as error:
        raise CorruptImageError(f"the {kind} image is truncated or corrupt") from error
    if orientation in _UPRIGHT:
        rgb = rgb.transpose(_UPRIGHT[orientation])
    return np.ascontiguousarray(np.asarray(rgb, dtype=np.uint8))


def stored_pixels(data: bytes) -> int:
    """Pixels that the header of an image declares; nothing is decoded.

    Raises:
        ImageError: the content is no accepted format, or its header is damaged.
    """
    with _opened(data) as image:
        return image.width * image.height


def upright_size(data: bytes) -> tuple[int, int]:
    """Height and width, in pixels, of what :func:`decode` makes of ``data``.

    A JPEG or WebP image is not decoded for it; a PNG image may be, as its orientation can stand at its end.

    Raises:
        ImageError: the content is no accepted format, or its header is damaged.
    """
    with _opened(data) as image:
        width, height = image.size
        turned = _UPRIGHT.get(_orientation(image)) in _TURNED
    return (width, height) if turned else (height, width)


def _opened(data: bytes) -> ImageFile.ImageFile:
    kind = sniff(data)
    try:
        return Image.open(io.BytesIO(data), formats=[kind])
    except Exception as error:
        raise CorruptImageError(f"the {kind} header is damaged") from error


def _check_header(image: Image.Image, limits: ImageLimits) -> None:
    width, height = image.size
    if max(width, height) > limits.max_side:
        raise ImageLimitError(
            f"the image is {width} x {height} pixels; the longest side allowed is {limits.max_side:,}"
        )
    if width * height > limits.max_pixels:
        raise ImageLimitError(
            f"the image is {width} x {height} = {width * height:,} pixels; the limit is {limits.max_pixels:,}"
        )
    frames = 1 if image.format == "MPO" else getattr(image, "n_frames", 1)
    if frames > limits.max_frames:
        raise ImageLimitError(f"the image has {frames:,} frames; the limit is {limits.max_frames}")


def _orientation(image: Image.Image) -> int:
    try:
        return int(image.getexif().get(_ORIENTATION_TAG, 1))
    except Exception:  # noqa: BLE001
        return 1  # malformed metadata never fails a decodable image


def _to_rgb(image: Image.Image, key: object) -> Image.Image:
    image.load()
    if image.mode.startswith("I"):  # 16-bit grey, "I;16" or "I" by Pillow version: keep the high byte
        high = np.asarray(image).astype(np.int32) >> 8
        image = Image.fromarray(high.clip(0, 255).astype(np.uint8))
    if key is not None:
        image.info["transparency"] = key
    if "A" in image.mode or "a" in image.mode or "transparency" in image.info:
        rgba = image.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", rgba.size, "white"), rgba).convert("RGB")
    return image if image.mode == "RGB" else image.convert("RGB")


def _colour_key(image: ImageFile.ImageFile) -> object:
    """The transparent colour in 8-bit terms; Pillow widens or narrows pixels to 8 bits, but not the key."""
    key = image.info.get("transparency")
    rawmode = str(image.tile[0].args) if image.format == "PNG" and image.tile else ""
    if ";16" in rawmode:
        return tuple(v >> 8 for v in key) if isinstance(key, tuple) else key >> 8 if isinstance(key, int) else key
    if isinstance(key, int):
        return key * {"L;2": 85, "L;4": 17}.get(rawmode, 1)
    return key
