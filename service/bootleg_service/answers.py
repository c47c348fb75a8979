"""Encoding results for the wire. Called off the event loop where the result is large."""

from __future__ import annotations

import base64
import io
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, Literal, TypeVar

import numpy as np
import orjson

from bootleg_service.errors import NotAcceptableError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from numpy.typing import NDArray

    from bootleg_bundle.errors import BootlegError
    from bootleg_bundle.manifest import Manifest
    from bootleg_service.selection import Selection
    from bootleg_service.vectors import Dtype

T = TypeVar("T")
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
    return choose(accept, _ACCEPTED)


def choose(accept: str, accepted: Mapping[str, T]) -> T:
    """Choose among what ``accepted`` has for each media type of an ``Accept`` header.

    Raises:
        NotAcceptableError: none of them is accepted.
    """
    if (only := accepted.get(accept)) is not None:  # one type without parameters: what nearly every client sends
        return only
    best: tuple[float, T] | None = None
    for part in (accept or "*/*").split(","):
        name, *parameters = (piece.strip() for piece in part.split(";"))
        quality = next((_quality(p[2:]) for p in parameters if p.startswith("q=")), 1.0)
        chosen = accepted.get(name.lower())
        if chosen is not None and quality > 0 and (best is None or quality > best[0]):
            best = quality, chosen
    if best is None:
        served = ", ".join(name for name in accepted if "*" not in name)
        raise NotAcceptableError(f"Accept: what is asked for here comes as {served}", param="accept")
    return best[1]


def _quality(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return 0.0


@dataclass(frozen=True)
class Rows:
    """What came of a request's images.

    Attributes:
        values: of those that succeeded, in order, ``[k, ...]``.
        faults: of the others, by place.
    """

    values: NDArray[Any]
    faults: Mapping[int, BootlegError] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.values) + len(self.faults)

    def listed(self, kind: str, name: str, row: Callable[[NDArray[Any]], dict[str, Any]]) -> list[dict[str, Any]]:
        """The images as JSON objects; at fault: ``name`` null, and ``error`` with the code and the message."""
        values = iter(self.values)
        listed: list[dict[str, Any]] = []
        for i in range(len(self)):
            fault = self.faults.get(i)
            about = row(next(values)) if fault is None else {name: None, "error": fault_of(fault)}
            listed.append({"object": kind, "index": i, **about})
        return listed

    def filled(self) -> NDArray[Any]:
        """One array for all, NaN for the images at fault: ``[n, ...]``. Floats only."""
        if not self.faults:
            return self.values
        filled = np.full((len(self), *self.values.shape[1:]), np.nan, self.values.dtype)
        filled[[i for i in range(len(self)) if i not in self.faults]] = self.values
        return filled


def fault_of(error: BootlegError) -> dict[str, str]:
    """An image's error, within an answer that holds those of others."""
    return {"code": error.code, "message": error.message}


def embedding_list(rows: Rows, selection: Selection, encoding: EncodingFormat, dtype: Dtype) -> bytes:
    """The OpenAI list, as JSON: ``{object, data: [{object, index, embedding}], model, usage}`` and the space."""

    def row(vector: NDArray[Any]) -> dict[str, Any]:
        return {"embedding": base64_numbers(vector) if encoding == "base64" else vector}

    data = rows.listed("embedding", "embedding", row)
    end = trailer(selection.manifest, len(rows), selection.space)
    return to_json({"object": "list", "data": data, **end, "dtype": dtype})


def patch_list(rows: Rows, selection: Selection) -> bytes:
    """Patch-token grids ``[n, gh, gw, D]`` as JSON with base64 payloads, little-endian, row-major."""
    manifest = selection.manifest
    spec = manifest.preprocess

    def row(grid: NDArray[Any]) -> dict[str, Any]:
        return {
            "grid": {"height": grid.shape[0], "width": grid.shape[1]},
            "dim": grid.shape[2],
            "dtype": str(grid.dtype),
            "patch_size": manifest.architecture.patch_size,
            "image_size": {"height": spec.height, "width": spec.width},
            "patch_tokens": base64_numbers(grid),
        }

    data = rows.listed("patch_tokens", "patch_tokens", row)
    return to_json({"object": "list", "data": data, **trailer(manifest, len(rows), selection.grid_space)})


def npy(array: NDArray[Any]) -> bytes:
    """The array as an ``.npy`` file."""
    buffer = io.BytesIO()
    np.save(buffer, array, allow_pickle=False)
    return buffer.getvalue()


def base64_numbers(array: NDArray[Any]) -> str:
    """Little-endian numbers in base64: what the OpenAI clients decode."""
    return base64.b64encode(np.ascontiguousarray(array).data).decode("ascii")


def to_json(value: Any) -> bytes:
    """Serialise with NumPy arrays as lists."""
    return orjson.dumps(value, option=orjson.OPT_SERIALIZE_NUMPY)


def trailer(manifest: Manifest, images: int, space: str) -> dict[str, Any]:
    """What ends every list: who answered, in which space, at what cost."""
    tokens = images * manifest.outputs.grid[0] * manifest.outputs.grid[1]
    return {
        "model": manifest.name,
        "embedding_space": space,
        "usage": {"prompt_tokens": tokens, "total_tokens": tokens, "images": images},
    }
