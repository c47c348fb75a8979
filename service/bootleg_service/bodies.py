"""Reading images out of a request: raw bytes, multipart files, or base64 strings. Bounded at every step."""

from __future__ import annotations

import asyncio
import binascii
import re
from typing import TYPE_CHECKING

from python_multipart.multipart import parse_options_header
from starlette.datastructures import FormData, UploadFile
from starlette.formparsers import MultiPartException, MultiPartParser
from starlette.requests import ClientDisconnect

from bootleg_bundle.errors import BootlegError, ImageLimitError
from bootleg_bundle.images import MEDIA_TYPES, sniff
from bootleg_service import stages
from bootleg_service.errors import BodyTooLargeError, ImageUrlError, MediaTypeError, ReceiveTimeoutError, RequestError
from bootleg_service.pipeline import ImageFailure

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    from starlette.requests import Request

    from bootleg_service.settings import RequestLimits

TAIL_BYTES = 256  # holds the closing boundary, 74 bytes at most, and a line or two behind it
# What clients send when they do not say what the bytes are; curl's default for --data-binary is the third.
GENERIC = {"", "application/octet-stream", "application/x-www-form-urlencoded", "image/*"}
SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]{0,30}:")  # of a URL; base64 has no colon
ALIASES = {"image/jpg": "image/jpeg", "image/pjpeg": "image/jpeg", "image/x-png": "image/png"}


async def read_body(request: Request, max_bytes: int, seconds: float) -> bytes:
    """Read a body, counting what arrives rather than believing its declared length.

    Raises:
        BodyTooLargeError: more than ``max_bytes``; the rest is not read.
        ReceiveTimeoutError: it did not arrive within ``seconds``.
    """
    arrival = _Arrival(request, max_bytes, seconds)
    chunks = []
    while arrival.more:
        chunks.append(await arrival.next())
    return b"".join(chunks)  # of one chunk, as most bodies come, no copy


class _Arrival:
    """A body's chunks under a limit on bytes and an absolute deadline.

    Args:
        request: whose body has not been touched.
        max_bytes: of the whole body.
        seconds: for the whole body.

    Attributes:
        more: whether the body goes on.

    Raises:
        MediaTypeError: it is compressed.
        BodyTooLargeError: it is declared with more than ``max_bytes``.
    """

    def __init__(self, request: Request, max_bytes: int, seconds: float) -> None:
        headers = request.headers
        if headers.get("content-encoding", "identity").lower() not in {"", "identity"}:
            raise MediaTypeError("Content-Encoding: bodies are read as they are; send it without compression")
        declared = headers.get("content-length", "")
        if declared.isascii() and declared.isdigit() and int(declared) > max_bytes:
            raise BodyTooLargeError(f"the body has {int(declared):,} bytes; the limit is {max_bytes:,} bytes")
        self.more = True
        self._receive = request.receive
        self._max_bytes, self._seconds = max_bytes, seconds
        self._received = 0
        self._begun = asyncio.get_running_loop().time()

    async def next(self) -> bytes:
        """The next chunk; ``more`` says whether another one comes.

        Raises:
            BodyTooLargeError: more than ``max_bytes``.
            ReceiveTimeoutError: not complete within ``seconds``.
            ClientDisconnect: the client left before the end.
        """
        try:
            async with asyncio.timeout_at(self._begun + self._seconds):
                message = await self._receive()
        except TimeoutError:
            raise ReceiveTimeoutError(f"the body did not arrive within {self._seconds:g} s") from None
        if message["type"] == "http.disconnect":
            raise ClientDisconnect
        chunk: bytes = message.get("body", b"")
        self.more = message.get("more_body", False)
        self._received += len(chunk)
        stages.received(len(chunk))
        if self._received > self._max_bytes:
            raise BodyTooLargeError(f"the body has over {self._max_bytes:,} bytes, which is the limit")
        if not self.more:
            stages.took("read", asyncio.get_running_loop().time() - self._begun)
        return chunk


async def read_images(request: Request, limits: RequestLimits, *, partial: bool = False) -> list[bytes | BootlegError]:
    """Images of a native route: one as the raw body, or several as multipart files named ``images``.

    With ``partial``, a file of a form that is at fault is returned as its error.

    Raises:
        MediaTypeError: the content type names a format other than the content's.
        RequestError: a malformed form, or too many images.
        ImageFailure: one file of a form is empty, too large, no image, or mislabelled; ``param`` names it.
        EmptyImageError: the raw body is empty.
        ImageFormatError: the raw body is no image we accept.
        BodyTooLargeError: the raw body is larger than an image may be, or the form than a body.
        ReceiveTimeoutError: the body did not arrive in time.
    """
    media_type = _media_type(request.headers.get("content-type"))
    if media_type == "multipart/form-data":
        return await _read_form(request, limits, partial=partial)
    if media_type == "application/json":
        raise MediaTypeError("this route takes image bytes; for base64 in JSON use POST /v1/embeddings")
    data = await read_body(request, limits.image.max_bytes, limits.receive_seconds)
    _check_declared(data, media_type)
    return [data]


def decode_base64(text: str, limits: RequestLimits, param: str) -> bytes:
    """Decode one image from a data URI or from bare base64, strictly.

    Raises:
        ImageUrlError: a URL was given.
        MediaTypeError: a data URI of something else than an image, or of another format than its content's.
        RequestError: not base64.
        ImageLimitError: it would decode to more bytes than an image may have.
    """
    scheme = SCHEME.match(text)
    is_data = scheme is not None and scheme[0].lower() == "data:"
    if scheme and not is_data:
        raise ImageUrlError(
            f"{param}: images are not fetched from URLs; send the bytes, as base64 or a data URI", param=param
        )
    media_type = ""
    if is_data:
        head, comma, text = text.partition(",")
        media_type, _, encoding = head[5:].partition(";")
        if not comma or not encoding.lower().endswith("base64"):
            raise RequestError(f"{param}: a data URI must be data:image/...;base64,...", param=param)
        if _media_type(media_type) not in GENERIC and not _media_type(media_type).startswith("image/"):
            raise MediaTypeError(f"{param}: a data URI must hold an image: data:image/...;base64,...", param=param)
    if len(text) // 4 * 3 > limits.image.max_bytes + 2:
        raise ImageLimitError(f"{param}: the image has over {limits.image.max_bytes:,} bytes, which is the limit")
    try:
        data = binascii.a2b_base64(text, strict_mode=True)
    except ValueError:  # binascii.Error is one; so is what other than ASCII raises
        data = None
    if data is None or len(text) % 4 or text[:-2].endswith("="):  # the strict mode lets padding in excess pass
        raise RequestError(f"{param}: not valid base64", param=param)
    _check_declared(data, _media_type(media_type))
    return data


def _media_type(content_type: str | None) -> str:
    """The type alone, without parameters, in lower case."""
    return (content_type or "").partition(";")[0].strip().lower()


def _check_declared(data: bytes, media_type: str) -> None:
    actual = MEDIA_TYPES[sniff(data)]
    declared = ALIASES.get(media_type, media_type)
    if declared.startswith("image/") and declared not in GENERIC and declared != actual:
        raise MediaTypeError(f"the content is {actual}, but its declared type is another image type")


async def _read_form(request: Request, limits: RequestLimits, *, partial: bool) -> list[bytes | BootlegError]:
    tail = bytearray()

    async def stream() -> AsyncGenerator[bytes, None]:
        arrival = _Arrival(request, limits.max_body_bytes, limits.receive_seconds)
        while arrival.more:
            chunk = await arrival.next()
            tail[:] = (tail + chunk)[-TAIL_BYTES:]
            yield chunk

    parser = MultiPartParser(request.headers, stream(), max_files=limits.max_images + 1, max_fields=16)
    parser.spool_max_size = limits.max_body_bytes + 1  # in memory: there may be no place to write
    try:
        form = await parser.parse()
    except (MultiPartException, KeyError, UnicodeError):
        raise RequestError(
            f"the multipart body is malformed, or holds over {limits.max_images} files or 16 fields", param="images"
        ) from None
    try:
        _check_end(parser, tail)
        images: list[bytes | BootlegError] = []
        for i, file in enumerate(_files(form, limits)):
            try:
                images.append(await _read_file(file, limits))
            except BootlegError as error:
                if not partial:
                    raise ImageFailure(error, f"images[{i}]") from error
                images.append(error)
        return images
    finally:
        await form.close()


def _check_end(parser: MultiPartParser, tail: bytes | bytearray) -> None:
    """The parser takes a cut body for a short one: look for the closing boundary ourselves."""
    _, options = parse_options_header(parser.headers["content-type"])
    if b"--" + options[b"boundary"] + b"--" in tail:
        return
    for unfinished in parser._files_to_close_on_error:  # noqa: SLF001  # not in the form, which its reader closes
        unfinished.close()
    raise RequestError("the multipart body is cut short: its closing boundary is missing", param="images")


def _files(form: FormData, limits: RequestLimits) -> list[UploadFile]:
    files = form.getlist("images")
    if any(isinstance(file, str) for file in files):
        raise RequestError("images: text instead of a file; with curl, write -F images=@FILE", param="images")
    if not files or set(form) != {"images"}:
        raise RequestError("the multipart body must hold files named 'images' and nothing else", param="images")
    if len(files) > limits.max_images:
        raise RequestError(f"images: {len(files)} files; the limit is {limits.max_images}", param="images")
    return [file for file in files if isinstance(file, UploadFile)]


async def _read_file(file: UploadFile, limits: RequestLimits) -> bytes:
    if (file.size or 0) > limits.image.max_bytes:
        raise ImageLimitError(f"the image has {file.size:,} bytes; the limit is {limits.image.max_bytes:,} bytes")
    data = await file.read()
    _check_declared(data, _media_type(file.content_type))
    return data
