"""Chroma's embedding function. Needs ``chromadb``."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any

from chromadb import EmbeddingFunction
from chromadb.utils.embedding_functions import register_embedding_function

from bootleg_search.embedder import ImageEmbedder
from bootleg_search.space import CollectionSpace

if TYPE_CHECKING:
    from chromadb.api.types import Embeddings, Space


@register_embedding_function
class BootlegImages(EmbeddingFunction[Any]):
    """Embeds what a collection is given as ``images``, uint8 arrays ``[h, w, 3]``, or as ``uris``, paths.

    Chroma stores :meth:`get_config` with the collection, and builds the function from it when the collection is opened:
    the space is in it, so a service with another model is then refused. No key is stored; give it anew when opening.

    Args:
        url: of the service.
        space: of an existing collection; by default what the service serves.
        api_key: of the service.

    Raises:
        MixedSpacesError: on first use, if the service serves another space.
    """

    def __init__(self, url: str, *, space: CollectionSpace | None = None, api_key: str | None = None) -> None:
        self._url, self._space, self._api_key = url, space, api_key

    @functools.cached_property
    def embedder(self) -> ImageEmbedder:
        """Connected when it is first needed: Chroma builds functions only to look at their names too."""
        return ImageEmbedder(self._url, space=self._space, api_key=self._api_key)

    def __call__(self, input: Any) -> Embeddings:  # noqa: A002  # Chroma's name
        """Images or paths to vectors of length 1."""
        return list(self.embedder.embed(input))

    @staticmethod
    def name() -> str:
        """What Chroma finds this class by."""
        return "bootleg-vision"

    def default_space(self) -> Space:
        """Cosine."""
        return "cosine"

    def get_config(self) -> dict[str, Any]:
        """What is stored with the collection."""
        return {"url": self._url, **(self._space or self.embedder.space).to_metadata()}

    @staticmethod
    def build_from_config(config: dict[str, Any]) -> BootlegImages:
        """The function of a stored collection."""
        return BootlegImages(config["url"], space=CollectionSpace.from_metadata(config, "of Chroma"))
