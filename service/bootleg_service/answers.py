"""Encoding results for the wire. Called off the event loop where the result is large."""

from __future__ import annotations

import base64
import io
from typing import TYPE_CHECKING, Any, Final, Literal

import numpy as np
import orjson

from bootleg_service.errors import NotAcceptableError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from bootleg_bundle.manifest import Manifest

Wire = Literal["application/json", "application/x-npy", "application/octet-stream"]
EncodingFormat = Literal["float", "base64"]

JSON: Final = "application/json"
NPY: Final = "application/x-npy"
RAW: Final = "application/octet-stream"
_ACCEPTED: Final[dict[str, Wire]] = {
    "*/*": JSON,
    "application/*": JSON,
    JSON: JSON,
    NPY: NPY,
    "application/npy": NPY,
    RAW: RAW,
}


def negotiate(accept: str) -> Wire:
    """Choose the answer's media type from an ``Accept`` header (RFC 9110, 12.5.1).

    Raises:
        NotAcceptableError: none of the accepted types is served.
    """
    best: tuple[float, Wire] | None = None
    for part in (accept or "*/*").split(","):
        name, *parameters = (piece.strip() for piece in part.split(";"))
        quality = next((_quality(p[2:]) for p in parameters if p.startswith("q=")), 1.0)
        wire = _ACCEPTED.get(name.lower())
        if wire is not None and quality > 0 and (best is None or quality > best[0]):
            best = quality, wire
    if best is None:
        raise NotAcceptableError(f"Accept: this route answers {JSON}, {NPY} and {RAW}", param="accept")
    return best[1]


def _quality(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return 0.0


def shorten(vectors: NDArray[np.float32], dimensions: int | None, *, normalize: bool) -> NDArray[np.float32]:
    """Keep the first ``dimensions`` numbers of each vector ``[n, D]``; shortened vectors are L2-normalised."""
    if dimensions is not None and dimensions < vectors.shape[1]:
        vectors, normalize = vectors[:, :dimensions], True
    if normalize:
        vectors = vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12)
    return np.ascontiguousarray(vectors, dtype="<f4")


def embedding_list(vectors: NDArray[np.float32], manifest: Manifest, encoding: EncodingFormat) -> bytes:
    """The OpenAI list, as JSON: ``{object, data: [{object, index, embedding}], model, usage}`` and the space."""
    data = [
        {"object": "embedding", "index": i, "embedding": base64_floats(v) if encoding == "base64" else v}
        for i, v in enumerate(vectors)
    ]
    return to_json({"object": "list", "data": data, **_trailer(manifest, len(vectors))})


def patch_list(grids: NDArray[np.floating], manifest: Manifest) -> bytes:
    """Patch-token grids ``[n, gh, gw, D]`` as JSON with base64 payloads, little-endian, row-major."""
    _, height, width, dim = grids.shape
    spec = manifest.preprocess
    data = [
        {
            "object": "patch_tokens",
            "index": i,
            "grid": {"height": height, "width": width},
            "dim": dim,
            "dtype": str(grids.dtype),
            "patch_size": manifest.architecture.patch_size,
            "image_size": {"height": spec.height, "width": spec.width},
            "patch_tokens": base64_floats(grid),
        }
        for i, grid in enumerate(grids)
    ]
    return to_json({"object": "list", "data": data, **_trailer(manifest, len(grids))})


def npy(array: NDArray[np.floating]) -> bytes:
    """The array as an ``.npy`` file."""
    buffer = io.BytesIO()
    np.save(buffer, array, allow_pickle=False)
    return buffer.getvalue()


def base64_floats(array: NDArray[np.floating]) -> str:
    """Little-endian numbers in base64: what the OpenAI clients decode."""
    return base64.b64encode(np.ascontiguousarray(array).data).decode("ascii")


def to_json(value: Any) -> bytes:
    """Serialise with NumPy arrays as lists."""
    return orjson.dumps(value, option=orjson.OPT_SERIALIZE_NUMPY)


def _trailer(manifest: Manifest, images: int) -> dict[str, Any]:
    tokens = images * manifest.outputs.grid[0] * manifest.outputs.grid[1]
    return {
        "model": manifest.name,
        "embedding_space": manifest.embedding_space,
        "usage": {"prompt_tokens": tokens, "total_tokens": tokens, "images": images},
    }
