"""A process that decodes: images in on its standard input, pixels out on its standard output, nothing else.

:mod:`bootleg_service.decode_processes` starts it and may kill it at any moment. What crosses the pipes is lengths and
raw bytes: a decoder that was taken over can send wrong pixels, and nothing that is interpreted as more than that.

in:  length, four bytes, little-endian | preprocessing as JSON | length | encoded image
out: status, one byte (0: pixels, 1: fault) | length, four bytes | seconds of decoding and of preprocessing, a float32
     each | pixels, or the fault as JSON ``[code, message]``
"""

from __future__ import annotations

import contextlib
import functools
import json
import os
import signal
import struct
import sys
import time
from typing import TYPE_CHECKING, BinaryIO

from bootleg_bundle.errors import ImageError, ImageLimitError
from bootleg_bundle.images import ImageLimits, decode
from bootleg_bundle.preprocess import PreprocessSpec, apply

try:
    import resource
except ImportError:  # Windows has no such limit
    resource = None  # type: ignore[assignment]

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

LENGTH = struct.Struct("<I")
ANSWER = struct.Struct("<BIff")
PIXELS, FAULT = 0, 1


def main(limits: ImageLimits, memory: int) -> None:
    """Decode until the server closes the pipe, or is gone."""
    for number in (signal.SIGINT, signal.SIGTERM):  # they are for the server, which drains and then closes the pipe
        signal.signal(number, signal.SIG_IGN)
    source = os.fdopen(os.dup(0), "rb")
    sink = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # whatever a library prints is no answer
    _limit_memory(memory)
    sink.write(ANSWER.pack(PIXELS, 0, 0, 0))  # ready
    sink.flush()
    while (text := _next(source)) is not None and (data := _next(source)) is not None:
        try:
            pixels, decoding, preprocessing = _decoded(data, _spec(text), limits)
            payload = pixels.tobytes()
            sink.write(ANSWER.pack(PIXELS, len(payload), decoding, preprocessing))
        except ImageError as error:
            payload = json.dumps([error.code, error.message]).encode()
            sink.write(ANSWER.pack(FAULT, len(payload), 0, 0))
        sink.write(payload)
        sink.flush()


def _decoded(data: bytes, spec: PreprocessSpec, limits: ImageLimits) -> tuple[NDArray[np.uint8], float, float]:
    begun = time.perf_counter()
    try:
        image = decode(data, limits)
        decoded = time.perf_counter()
        pixels = apply(spec, image)
    except MemoryError:
        raise ImageLimitError("decoding the image takes more memory than may be had for it") from None
    return pixels, decoded - begun, time.perf_counter() - decoded


@functools.lru_cache(64)
def _spec(text: bytes) -> PreprocessSpec:
    return PreprocessSpec.model_validate_json(text)


def _next(source: BinaryIO) -> bytes | None:
    head = source.read(LENGTH.size)
    if len(head) < LENGTH.size:
        return None
    (length,) = LENGTH.unpack(head)
    return source.read(length)


def _limit_memory(most: int) -> None:
    if resource is None:
        return
    _, hard = resource.getrlimit(resource.RLIMIT_AS)
    with contextlib.suppress(ValueError, OSError):  # macOS refuses it
        resource.setrlimit(resource.RLIMIT_AS, (most if hard == resource.RLIM_INFINITY else min(most, hard), hard))


if __name__ == "__main__":
    main(ImageLimits.model_validate_json(sys.argv[1]), int(sys.argv[2]))
