"""LlamaIndex's ``MultiModalEmbedding``, for images alone. Needs ``llama-index-core``."""

from __future__ import annotations

import asyncio
from io import BytesIO
from typing import TYPE_CHECKING, Any, NoReturn

from llama_index.core.embeddings import MultiModalEmbedding
from pydantic import PrivateAttr

from bootleg_search.embedder import ImageEmbedder
from bootleg_search.errors import TextRefusedError

if TYPE_CHECKING:
    from llama_index.core.schema import ImageType

    from bootleg_client import ImageInput
    from bootleg_search.space import CollectionSpace


class BootlegImageEmbedding(MultiModalEmbedding):
    """The ``image_embed_model`` of a multi-modal index; texts are refused.

    Args:
        url: of the service.
        space: of the index that is to be filled or asked; by default what the service serves.
        api_key: of the service.
        options: LlamaIndex's own, such as ``embed_batch_size``.

    Raises:
        MixedSpacesError: the service serves another space.
    """

    _embedder: ImageEmbedder = PrivateAttr()

    def __init__(
        self, url: str, *, space: CollectionSpace | None = None, api_key: str | None = None, **options: Any
    ) -> None:
        embedder = ImageEmbedder(url, space=space, api_key=api_key)
        super().__init__(model_name=embedder.model, **options)
        self._embedder = embedder

    @property
    def space(self) -> CollectionSpace:
        """To be stored with the index, such as in the metadata of its nodes."""
        return self._embedder.space

    def _get_image_embeddings(self, img_file_paths: list[ImageType]) -> list[list[float]]:
        images: list[ImageInput] = [i.getvalue() if isinstance(i, BytesIO) else i for i in img_file_paths]
        vectors: list[list[float]] = self._embedder.embed(images).tolist()
        return vectors

    def _get_image_embedding(self, img_file_path: ImageType) -> list[float]:
        return self._get_image_embeddings([img_file_path])[0]

    async def _aget_image_embeddings(self, img_file_paths: list[ImageType]) -> list[list[float]]:
        return await asyncio.to_thread(self._get_image_embeddings, img_file_paths)

    async def _aget_image_embedding(self, img_file_path: ImageType) -> list[float]:
        return (await self._aget_image_embeddings([img_file_path]))[0]

    def _get_text_embedding(self, text: str) -> NoReturn:
        raise TextRefusedError(f"the text {text[:40]!r} has no vector here: this model takes images only")

    def _get_query_embedding(self, query: str) -> NoReturn:
        self._get_text_embedding(query)

    async def _aget_query_embedding(self, query: str) -> NoReturn:
        self._get_text_embedding(query)
