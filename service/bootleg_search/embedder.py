"""Images to vectors of one space. Every class of this package, and every example, embeds through this one."""

from __future__ import annotations

from typing import TYPE_CHECKING, Self

from bootleg_client import Client, SpaceMismatchError
from bootleg_search.errors import MixedSpacesError
from bootleg_search.space import CollectionSpace

if TYPE_CHECKING:
    from collections.abc import Iterable
    from types import TracebackType

    import httpx
    import numpy as np
    from numpy.typing import NDArray

    from bootleg_client import ImageInput


class ImageEmbedder:
    """A client pinned to one space: a service that changes its model under it is refused, not mixed in.

    Args:
        url: of the service.
        space: of the collection that is to be filled or asked; by default whatever the service serves now.
        api_key: of the service.
        transport: of httpx, for tests and for certificates of your own.

    Raises:
        MixedSpacesError: the service serves another space.
        ClientError: it cannot be asked.
    """

    def __init__(
        self,
        url: str,
        *,
        space: CollectionSpace | None = None,
        api_key: str | None = None,
        transport: httpx.BaseTransport | None = None,
    ) -> None:
        with Client(url, api_key=api_key, transport=transport) as client:
            model = client.models()[0]
        served = CollectionSpace(model.embedding_space, model.dimensions, space.centre if space else b"")
        if space is not None:
            space.check(served, url)
        self.space = served
        self.model = model.id
        self._client = Client(url, api_key=api_key, embedding_space=served.embedding_space, transport=transport)

    def embed(self, images: ImageInput | Iterable[ImageInput]) -> NDArray[np.float32]:
        """Vectors of images: paths, encoded bytes, Pillow images or uint8 arrays, any number of them.

        Returns:
            float32 ``[n, D]`` of length 1, so that inner product and cosine are one.

        Raises:
            MixedSpacesError: the service has another model by now.
            ClientError: any other fault, after repetition where that may help.
        """
        try:
            return self.space.prepare(self._client.embed(images).vectors)
        except SpaceMismatchError as error:
            raise MixedSpacesError(f"the service no longer serves {self.space.embedding_space}: {error}") from error

    def close(self) -> None:
        """Close the connections."""
        self._client.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
