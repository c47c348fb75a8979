"""LangChain's ``Embeddings``, where a "document" is the path of an image. Needs ``langchain-core``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from langchain_core.embeddings import Embeddings

from bootleg_search.embedder import ImageEmbedder
from bootleg_search.errors import TextRefusedError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from bootleg_client import ImageInput
    from bootleg_search.space import CollectionSpace


class BootlegEmbeddings(Embeddings):
    """For any LangChain vector store: the page content of a document, and the query, are paths of images.

    Args:
        url: of the service.
        space: of the store that is to be filled or asked; by default what the service serves.
        api_key: of the service.

    Raises:
        MixedSpacesError: the service serves another space.
    """

    def __init__(self, url: str, *, space: CollectionSpace | None = None, api_key: str | None = None) -> None:
        self.embedder = ImageEmbedder(url, space=space, api_key=api_key)

    @property
    def space(self) -> CollectionSpace:
        """To be stored in the metadata of documents, or of the store."""
        return self.embedder.space

    def embed_documents(self, texts: list[str]) -> list[list[float]]:
        """Vectors of the images at these paths.

        Raises:
            TextRefusedError: one is no file.
        """
        return self.embed_image([image_path(text) for text in texts])

    def embed_query(self, text: str) -> list[float]:
        """The vector of the image at this path."""
        return self.embed_documents([text])[0]

    def embed_image(self, uris: Sequence[ImageInput]) -> list[list[float]]:
        """Vectors of images, as LangChain's stores that add images ask for them."""
        vectors: list[list[float]] = self.embedder.embed(uris).tolist()
        return vectors


def image_path(text: str) -> Path:
    """The file that a text names.

    Raises:
        TextRefusedError: none.
    """
    try:
        path = Path(text)
        if path.is_file():
            return path
    except (OSError, ValueError):  # longer than a path may be, or with a zero byte
        pass
    raise TextRefusedError(f"{text[:80]!r} is no image file: this model takes images only, by their paths")
