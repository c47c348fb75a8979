"""Which vectors a collection holds. The record lies in the collection itself, so that two models can never mix."""

from __future__ import annotations

import base64
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from bootleg_search.errors import MixedSpacesError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

SPACE, DIMENSIONS, CENTRE = "embedding_space", "dimensions", "centre"
"""Keys of the record: an id, a number, and base64 of little-endian float32; the last is there only if it is used."""


@dataclass(frozen=True)
class CollectionSpace:
    """What must be equal for two vectors to be compared.

    Attributes:
        embedding_space: as the service names it, such as ``es1-0f...``.
        dimensions: numbers in a vector.
        centre: float32 ``[D]`` as little-endian bytes, taken off every vector before it is normalised; empty for none.
    """

    embedding_space: str
    dimensions: int
    centre: bytes = b""

    @classmethod
    def centred_on(cls, vectors: NDArray[np.floating], embedding_space: str) -> Self:
        """The space of vectors seen from their own mean, which makes cosines tell more.

        Args:
            vectors: ``[n, D]`` of the collection, or a fair sample, as the model gives them.
            embedding_space: theirs.
        """
        mean = np.asarray(vectors, np.float64).mean(axis=0)
        return cls(embedding_space, mean.size, mean.astype("<f4").tobytes())

    def prepare(self, vectors: NDArray[np.floating]) -> NDArray[np.float32]:
        """``[n, D]`` as the model gives them -> as the collection stores them and is asked: centred, of length 1."""
        prepared = np.array(vectors, np.float32)
        if self.centre:
            prepared -= np.frombuffer(self.centre, "<f4")
        prepared /= np.maximum(np.linalg.norm(prepared, axis=1, keepdims=True), np.finfo(np.float32).tiny)
        return prepared

    def to_metadata(self) -> dict[str, Any]:
        """A flat record of strings and one number, which every backend can hold."""
        record: dict[str, Any] = {SPACE: self.embedding_space, DIMENSIONS: self.dimensions}
        return record | ({CENTRE: base64.b64encode(self.centre).decode()} if self.centre else {})

    @classmethod
    def from_metadata(cls, record: Mapping[str, Any] | None, collection: str) -> Self:
        """Read a record back; other keys beside it are passed over.

        Args:
            record: as :meth:`to_metadata` made it; numbers may have become text.
            collection: its name, for errors.

        Raises:
            MixedSpacesError: there is none, so that nobody can know which model made these vectors.
        """
        try:
            found = dict(record or {})
            centre = base64.b64decode(found.get(CENTRE, ""), validate=True)
            return cls(str(found[SPACE]), int(found[DIMENSIONS]), centre)
        except (KeyError, TypeError, ValueError) as error:
            raise MixedSpacesError(
                f"collection {collection!r} does not say which embedding space its vectors are of: "
                f"{SPACE} and {DIMENSIONS} are wanted in its metadata"
            ) from error

    def check(self, served: CollectionSpace, where: str) -> None:
        """Compare the collection's space, which is this, with what a service gives.

        Args:
            served: the service's.
            where: its address, for errors.

        Raises:
            MixedSpacesError: they differ, and in what.
        """
        for name in (SPACE, DIMENSIONS, CENTRE):
            ours, theirs = getattr(self, name), getattr(served, name)
            if ours != theirs:
                raise MixedSpacesError(
                    f"the collection has {name} {_short(ours)}, the service at {where} gives {_short(theirs)}: vectors "
                    "of two models cannot be compared; embed the images again into a new collection"
                )


def _short(value: object) -> str:
    text = value.hex() if isinstance(value, bytes) else str(value)
    return (text if len(text) <= 60 else f"{text[:57]}...") or "none"
