"""LanceDB's embedding function, registered as ``bootleg-vision``. Needs ``lancedb``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from lancedb.embeddings import EmbeddingFunction, get_registry, register
from pydantic import PrivateAttr

from bootleg_search.embedder import ImageEmbedder
from bootleg_search.space import CollectionSpace

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


@register("bootleg-vision")
class BootlegImages(EmbeddingFunction):
    """Embeds a column of paths or of encoded images; make one with :meth:`of`.

    LanceDB writes these fields into the table and builds the function from them when the table is opened: a service
    with another model is then refused. The address may be changed by LanceDB's variable ``bootleg_url``, and the key is
    only ever read from ``bootleg_api_key``: ``lancedb.embeddings.get_registry().set_var("bootleg_api_key", KEY)``.
    """

    url: str
    embedding_space: str
    dimensions: int
    api_key: str | None = None
    _embedder: ImageEmbedder | None = PrivateAttr(None)

    @classmethod
    def of(cls, url: str, *, api_key: str | None = None) -> BootlegImages:
        """The function for a new table, of the space that the service serves now; sets the two variables.

        Raises:
            ClientError: the service cannot be asked.
        """
        with ImageEmbedder(url, api_key=api_key) as embedder:
            fields = {"url": f"$var:bootleg_url:{url}", **embedder.space.to_metadata()}
        get_registry().set_var("bootleg_url", url)
        if api_key:
            get_registry().set_var("bootleg_api_key", api_key)
        made: BootlegImages = cls.create(**fields, **({"api_key": "$var:bootleg_api_key"} if api_key else {}))
        return made

    @staticmethod
    def sensitive_keys() -> list[str]:
        """Fields that LanceDB takes from variables only."""
        return ["api_key"]

    def ndims(self) -> int:
        """Numbers in a vector."""
        return self.dimensions

    def embedder(self) -> ImageEmbedder:
        """Connected when it is first needed: LanceDB builds functions only to read a table too."""
        if self._embedder is None:
            space = CollectionSpace(self.embedding_space, self.dimensions)
            self._embedder = ImageEmbedder(self.url, space=space, api_key=self.api_key)
        return self._embedder

    def compute_source_embeddings(self, images: Any, *_: Any, **__: Any) -> list[NDArray[np.float32]]:
        """Vectors of length 1 of a column of paths or encoded images."""
        return list(self.embedder().embed(self.sanitize_input(images)))

    def compute_query_embeddings(self, query: Any, *_: Any, **__: Any) -> list[NDArray[np.float32]]:
        """The vector of one image: a path, encoded bytes, a Pillow image or an array."""
        return list(self.embedder().embed(query))

    def compute_source_embeddings_with_retry(self, *images: Any, **options: Any) -> list[NDArray[np.float32]]:
        """Without LanceDB's repetitions, which hide what failed: the client repeats what may be repeated."""
        return self.compute_source_embeddings(*images, **options)

    def compute_query_embeddings_with_retry(self, *query: Any, **options: Any) -> list[NDArray[np.float32]]:
        """Likewise."""
        return self.compute_query_embeddings(*query, **options)
