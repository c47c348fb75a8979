"""Qdrant: a local folder by default, a server with --qdrant http://HOST:6333.

    pip install 'bootleg-vision[client]' qdrant-client
    python examples/qdrant_search.py PHOTOS --query Q.jpg --url http://127.0.0.1:8000

The space is in the collection's metadata.
"""

from __future__ import annotations

import uuid
from typing import TYPE_CHECKING

from command_line import photographs, run, show
from qdrant_client import QdrantClient
from qdrant_client.models import Distance, PointStruct, VectorParams

from bootleg_search import CollectionSpace, ImageEmbedder

if TYPE_CHECKING:
    from argparse import Namespace

COLLECTION = "photographs"
BATCH = 256


def main(asked: Namespace) -> None:
    """Fill the collection if it is not there yet, then ask it."""
    qdrant = QdrantClient(url=asked.qdrant) if asked.qdrant else QdrantClient(path=asked.store)
    if not qdrant.collection_exists(COLLECTION):
        with ImageEmbedder(asked.url) as embedder:
            fill(qdrant, embedder, photographs(asked.photos))

    record = qdrant.get_collection(COLLECTION).config.metadata
    with ImageEmbedder(asked.url, space=CollectionSpace.from_metadata(record, COLLECTION)) as embedder:
        vector = embedder.embed(asked.query)[0]
    found = qdrant.query_points(COLLECTION, query=vector.tolist(), limit=asked.top, with_payload=True).points
    show((point.payload["path"], point.score) for point in found)
    qdrant.close()


def fill(qdrant: QdrantClient, embedder: ImageEmbedder, paths: list[str]) -> None:
    """Create the collection and put every photograph in; an id is made of the path, so a repetition doubles nothing."""
    qdrant.create_collection(
        COLLECTION,
        vectors_config=VectorParams(size=embedder.space.dimensions, distance=Distance.COSINE),
        metadata=embedder.space.to_metadata(),
    )
    for start in range(0, len(paths), BATCH):
        batch = paths[start : start + BATCH]
        points = [
            PointStruct(id=str(uuid.uuid5(uuid.NAMESPACE_URL, path)), vector=vector.tolist(), payload={"path": path})
            for path, vector in zip(batch, embedder.embed(batch), strict=True)
        ]
        qdrant.upsert(COLLECTION, points, wait=True)


if __name__ == "__main__":
    run(main, __doc__, store="photographs.qdrant", qdrant="")
