"""Changing the model under a Qdrant collection that is being asked: old and new side by side, switch, drop.

    python examples/re_embedding.py PHOTOS --query Q.jpg --url http://OLD:8000 --new http://NEW:8000

The steps are functions, so that a program of yours can take them one by one; docs/search/re-embedding.md explains them.
"""

from __future__ import annotations

import uuid
from typing import TYPE_CHECKING

from command_line import photographs, run, show
from qdrant_client import QdrantClient
from qdrant_client.models import (
    CreateAlias,
    CreateAliasOperation,
    DeleteAlias,
    DeleteAliasOperation,
    Distance,
    PointStruct,
    VectorParams,
)

from bootleg_search import CollectionSpace, ImageEmbedder

if TYPE_CHECKING:
    from argparse import Namespace
    from collections.abc import Sequence

ALIAS = "photographs"
"""What searches ask. Behind it is one collection, named for its space."""

BATCH = 256


def main(asked: Namespace) -> None:
    """All steps in a row, with a search before and after."""
    paths = photographs(asked.photos)
    qdrant = QdrantClient(url=asked.qdrant) if asked.qdrant else QdrantClient(path=asked.store)
    with ImageEmbedder(asked.url) as old, ImageEmbedder(asked.new) as new:
        write(qdrant, [old], paths)
        switch(qdrant, old.space)
        show(search(qdrant, asked.url, asked.query, asked.top))

        write(qdrant, [old, new], paths[:1])  # from now on every new photograph goes into both
        write(qdrant, [new], missing(qdrant, new.space, paths))  # and the old ones into the new, in peace
        switch(qdrant, new.space)
        show(search(qdrant, asked.new, asked.query, asked.top))
        drop(qdrant, old.space)
    qdrant.close()


def collection_of(space: CollectionSpace) -> str:
    """A name for each space, so that two spaces can never share a collection."""
    return f"{ALIAS}-{space.embedding_space}"


def write(qdrant: QdrantClient, embedders: Sequence[ImageEmbedder], paths: Sequence[str]) -> None:
    """Put photographs into the collection of each embedder's space; one that is there already is written again."""
    for embedder in embedders:
        name = collection_of(embedder.space)
        if not qdrant.collection_exists(name):
            vectors = VectorParams(size=embedder.space.dimensions, distance=Distance.COSINE)
            qdrant.create_collection(name, vectors_config=vectors, metadata=embedder.space.to_metadata())
        for start in range(0, len(paths), BATCH):
            batch = paths[start : start + BATCH]
            points = [
                PointStruct(id=point_id(path), vector=vector.tolist(), payload={"path": path})
                for path, vector in zip(batch, embedder.embed(batch), strict=True)
            ]
            qdrant.upsert(name, points, wait=True)


def missing(qdrant: QdrantClient, space: CollectionSpace, paths: Sequence[str]) -> list[str]:
    """Photographs that a space's collection does not hold yet: what a stopped run goes on with."""
    held: set[str] = set()
    for start in range(0, len(paths), BATCH):
        ids = [point_id(path) for path in paths[start : start + BATCH]]
        held |= {str(point.id) for point in qdrant.retrieve(collection_of(space), ids, with_payload=False)}
    return [path for path in paths if point_id(path) not in held]


def switch(qdrant: QdrantClient, space: CollectionSpace) -> None:
    """Let searches find the collection of this space, in one atomic step."""
    present = {alias.alias_name for alias in qdrant.get_aliases().aliases}
    remove = [DeleteAliasOperation(delete_alias=DeleteAlias(alias_name=ALIAS))] if ALIAS in present else []
    create = CreateAlias(collection_name=collection_of(space), alias_name=ALIAS)
    qdrant.update_collection_aliases([*remove, CreateAliasOperation(create_alias=create)])


def search(qdrant: QdrantClient, url: str, query: object, top: int) -> list[tuple[str, float]]:
    """Ask whatever the alias names; a service of another space is refused.

    Raises:
        MixedSpacesError: the service does not serve the collection's space.
    """
    record = qdrant.get_collection(ALIAS).config.metadata
    with ImageEmbedder(url, space=CollectionSpace.from_metadata(record, ALIAS)) as embedder:
        vector = embedder.embed(query)[0]
    found = qdrant.query_points(ALIAS, query=vector.tolist(), limit=top, with_payload=True).points
    return [(point.payload["path"], point.score) for point in found]


def drop(qdrant: QdrantClient, space: CollectionSpace) -> None:
    """Delete a space's collection, once nothing asks it and nobody wants to go back."""
    qdrant.delete_collection(collection_of(space))


def point_id(path: str) -> str:
    """The same photograph has the same id in both collections."""
    return str(uuid.uuid5(uuid.NAMESPACE_URL, path))


if __name__ == "__main__":
    run(main, __doc__, new="http://127.0.0.1:8001", store="photographs.qdrant", qdrant="")
