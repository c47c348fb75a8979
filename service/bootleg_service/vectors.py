"""What is done to vectors after the model and the cache: shortened, scaled to unit length, quantised.

Every route that answers vectors calls it, off the event loop where they are many. Nothing here is kept: one cached
vector serves all forms.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, Literal

import numpy as np

from bootleg_service.errors import EngineError

if TYPE_CHECKING:
    from numpy.typing import NDArray

Dtype = Literal["float32", "float16", "int8", "uint8", "binary", "ubinary"]

FLOATS: Final = ("float32", "float16")
SIGNED_LEVELS: Final = 127


def shorten(vectors: NDArray[np.float32], dimensions: int | None, *, normalize: bool) -> NDArray[np.float32]:
    """Keep the first ``dimensions`` numbers of each vector ``[n, D]``; shortened vectors are L2-normalised."""
    if dimensions is not None and dimensions < vectors.shape[1]:
        vectors, normalize = vectors[:, :dimensions], True
    if normalize:
        vectors = vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12)
    return np.ascontiguousarray(vectors, dtype="<f4")


def quantise(vectors: NDArray[np.float32], dtype: Dtype) -> NDArray[Any]:
    """Store vectors ``[n, D]`` in fewer bits.

    ``int8``: symmetric for each vector, its largest magnitude becoming 127. Directions are kept and lengths are not, so
    compare by cosine. ``uint8``: the same and 128 more. ``ubinary``: a bit for each number, 1 where it is above zero,
    eight to a byte, the first one highest, padded with zeros to ``[n, ceil(D / 8)]``; compare by Hamming distance.
    ``binary``: those bytes less 128, as int8. Bits and bytes are laid out as sentence-transformers and Cohere do.

    Raises:
        EngineError: a number does not fit float16.
    """
    match dtype:
        case "float32":
            return np.ascontiguousarray(vectors, dtype="<f4")
        case "float16":
            with np.errstate(over="ignore"):
                half = vectors.astype(np.dtype(np.float16))
            if not np.isfinite(half).all():
                raise EngineError("the model's answer for an image does not fit float16; ask for float32")
            return half
        case "int8" | "uint8":
            largest = np.maximum(np.abs(vectors).max(axis=1, keepdims=True, initial=0), 1e-30)
            signed: NDArray[np.int16] = np.rint(vectors / largest * SIGNED_LEVELS).astype(np.int16)
            return signed.astype(np.int8) if dtype == "int8" else (signed + 128).astype(np.uint8)
        case "binary" | "ubinary":
            bits: NDArray[np.uint8] = np.packbits(vectors > 0, axis=1)
            return bits if dtype == "ubinary" else (bits.astype(np.int16) - 128).astype(np.int8)
