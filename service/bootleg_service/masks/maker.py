"""From one image's tokens or logits to its finished mask. The pipeline calls it for what is not in the cache.

route -> Pipeline.answer_each -> MaskMaker.make, in a thread of the mask pool; the model's part is the pipeline's.
"""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any

from bootleg_bundle.images import upright_size
from bootleg_service.masks import kmeans, ncut, segments
from bootleg_service.masks.colors import FOREGROUND, cluster_classes
from bootleg_service.masks.piece import Piece
from bootleg_service.masks.placement import UNSEEN, label_map, place
from bootleg_service.masks.tokens import pooled, spread

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np
    from numpy.typing import NDArray

    from bootleg_bundle.manifest import Manifest, PixelClass
    from bootleg_service.batching.ticket import Claim
    from bootleg_service.masks.options import MaskRequest
    from bootleg_service.masks.pool import MaskPool


class MaskMaker:
    """Makes masks as one request asks: a ``Derived`` answer of the pipeline.

    Attributes:
        kind: all that decides a mask beside the image.
        source: the model's output it is made of.
    """

    def __init__(self, asked: MaskRequest, manifest: Manifest, pool: MaskPool, *, max_vertices: int) -> None:
        self.kind = asked.kind
        self.source = asked.source
        self._asked = asked
        self._manifest = manifest
        self._pool = pool
        self._max_vertices = max_vertices

    async def make(self, data: bytes, source: NDArray[Any], ticket: Claim) -> NDArray[Any]:
        """Make the mask of one encoded image from its tokens ``[gh, gw, D]`` or logits ``[C, h, w]``.

        Returns:
            A packed :class:`Piece`.

        Raises:
            OverloadedError: too many masks wait to be made.
            DeadlineError: the ticket's deadline passed before.
            RequestError: its polygons have too many vertices.
        """
        return await self._pool.run(functools.partial(self._draw, data, source), ticket)

    def _draw(self, data: bytes, source: NDArray[Any]) -> NDArray[np.uint8]:
        asked = self._asked
        scores, classes = self._score(source)
        grid = self._manifest.heads[asked.head].grid if asked.head is not None else self._manifest.outputs.grid
        placement = place(self._manifest.preprocess, upright_size(data), asked.size, grid)
        labels = label_map(scores, placement)
        found = segments.describe(labels, classes)
        payload = b""
        if asked.format == "rle":
            found = segments.with_rle(labels, found)
        elif asked.format == "polygons":
            found = segments.with_polygons(labels, found, most=asked.max_polygons, max_vertices=self._max_vertices)
        else:
            payload = segments.png(labels, classes) if asked.format == "png" else labels.tobytes()
        about = {
            "image": _sides(placement.image),
            "box": list(placement.box),
            "size": _sides(placement.size),
            "unseen": int((labels == UNSEEN).sum()),
            "segments": found,
        }
        return Piece(about, payload).pack()

    def _score(self, source: NDArray[Any]) -> tuple[NDArray[np.float32], Sequence[PixelClass]]:
        """Scores ``[C, gh, gw]``, and what each label stands for."""
        asked = self._asked
        if asked.head is not None:
            return source, self._manifest.heads[asked.head].classes
        if asked.method == "foreground":
            return ncut.foreground(source), FOREGROUND
        if asked.method == "ncut":
            scores = ncut.segments(source, asked.clusters)
        else:
            vectors = spread(source)
            centres = kmeans.cluster(vectors, spread(pooled(source)), asked.clusters)
            scores = kmeans.closeness(vectors, centres).reshape(-1, *source.shape[:2])
        return scores, cluster_classes(len(scores))


def _sides(size: tuple[int, int]) -> dict[str, int]:
    return {"height": size[0], "width": size[1]}
