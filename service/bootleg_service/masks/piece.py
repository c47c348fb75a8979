"""One image's finished mask as it lies in the cache: what JSON says of it, and the bytes of a label map.

length of the JSON, four bytes, little-endian | JSON | label map: a PNG file, raw bytes, or nothing
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import orjson

if TYPE_CHECKING:
    from numpy.typing import NDArray


@dataclass(frozen=True)
class Piece:
    """A finished mask.

    Attributes:
        about: the image's object of the JSON answer, without its place.
        payload: the label map, where the format has one.
    """

    about: dict[str, Any]
    payload: bytes = b""

    def pack(self) -> NDArray[np.uint8]:
        """As bytes, uint8 ``[n]``."""
        text = orjson.dumps(self.about)
        return np.frombuffer(struct.pack("<I", len(text)) + text + self.payload, np.uint8)


def unpack(packed: NDArray[np.uint8]) -> Piece:
    """Read a packed piece."""
    data = packed.tobytes()
    end = 4 + struct.unpack_from("<I", data)[0]
    return Piece(orjson.loads(data[4:end]), data[end:])
