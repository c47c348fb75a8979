"""Cache keys, and the bytes of a cached result. No pickle; anything unexpected reads as a miss.

key     bootleg:1:<space, 12 digits>:<SHA-256 of everything that decides the answer>
value   magic | dtype | dimensions | shape | digest of the key | payload | CRC-32 of all before
"""

from __future__ import annotations

import hashlib
import struct
import zlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

SCHEMA: Final = 1
_MAGIC: Final = b"BLV1"
_DTYPES: Final[dict[bytes, np.dtype[Any]]] = {b"f4": np.dtype("<f4"), b"f2": np.dtype("<f2"), b"u1": np.dtype("u1")}
_NAMES: Final = {dtype: name for name, dtype in _DTYPES.items()}


@dataclass(frozen=True)
class CacheKey:
    """Identity of one answer.

    Attributes:
        space: the model's embedding space.
        digest: SHA-256 over all that decides the answer; stored in the value and compared on read, so
            that an answer meant for another key is a miss and not somebody else's embedding.
    """

    space: str
    digest: bytes

    @property
    def text(self) -> str:
        """The key in Redis."""
        return f"bootleg:{SCHEMA}:{self.space[-12:]}:{self.digest.hex()}"


def cache_key(space: str, bundle_sha256: str, preprocess_hash: str, output: str, data: bytes) -> CacheKey:
    """Key of one output for one encoded image. Every part has a fixed length or its length in front."""
    digest = hashlib.sha256(f"{SCHEMA}|{bundle_sha256}|{preprocess_hash}|{len(output)}|{output}|".encode())
    digest.update(data)
    return CacheKey(space, digest.digest())


def pack(key: CacheKey, value: NDArray[Any]) -> bytes:
    """Serialise a result."""
    array = np.ascontiguousarray(value)
    head = _MAGIC + _NAMES[array.dtype.newbyteorder("<")] + struct.pack(f"<B{array.ndim}I", array.ndim, *array.shape)
    body = head + key.digest + array.tobytes()
    return body + struct.pack("<I", zlib.crc32(body))


def unpack(key: CacheKey, data: bytes) -> NDArray[Any] | None:
    """Read a result back; None when it is damaged, foreign, of another schema, or of another key."""
    try:
        body, (checksum,) = data[:-4], struct.unpack("<I", data[-4:])
        if zlib.crc32(body) != checksum or body[:4] != _MAGIC:
            return None
        dtype, dimensions = _DTYPES[bytes(body[4:6])], body[6]
        payload = 7 + 4 * dimensions
        shape = struct.unpack(f"<{dimensions}I", body[7:payload])
        if body[payload : payload + 32] != key.digest:
            return None
        array: NDArray[Any] = np.frombuffer(body, dtype, offset=payload + 32).reshape(shape)
    except (struct.error, KeyError, IndexError, ValueError):
        return None
    return array
