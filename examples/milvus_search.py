"""Milvus: Lite in a local folder by default, a server with --milvus http://HOST:19530.

    pip install 'bootleg-vision[client]' 'pymilvus[milvus_lite]'
    python examples/milvus_search.py PHOTOS --query Q.jpg --url http://127.0.0.1:8000

The space is in the collection's properties.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from command_line import photographs, run, show
from pymilvus import DataType, MilvusClient

from bootleg_search import CollectionSpace, ImageEmbedder

if TYPE_CHECKING:
    from argparse import Namespace

COLLECTION = "photographs"
BATCH = 256


def main(asked: Namespace) -> None:
    """Fill the collection if it is not there yet, then ask it."""
    milvus = MilvusClient(asked.milvus or asked.store)
    if not milvus.has_collection(COLLECTION):
        with ImageEmbedder(asked.url) as embedder:
            fill(milvus, embedder, photographs(asked.photos))

    record = milvus.describe_collection(COLLECTION)["properties"]
    with ImageEmbedder(asked.url, space=CollectionSpace.from_metadata(record, COLLECTION)) as embedder:
        vectors = embedder.embed(asked.query)
    milvus.load_collection(COLLECTION)
    found = milvus.search(COLLECTION, data=vectors.tolist(), limit=asked.top, anns_field="vector")
    show((hit["path"], hit["distance"]) for hit in found[0])  # of COSINE, Milvus gives the cosine itself
    milvus.close()


def fill(milvus: MilvusClient, embedder: ImageEmbedder, paths: list[str]) -> None:
    """Create collection and index, and put every photograph in under its path."""
    schema = milvus.create_schema()
    schema.add_field("path", DataType.VARCHAR, is_primary=True, max_length=4096)
    schema.add_field("vector", DataType.FLOAT_VECTOR, dim=embedder.space.dimensions)
    index = milvus.prepare_index_params()
    index.add_index("vector", index_type="HNSW", metric_type="COSINE", params={"M": 16, "efConstruction": 200})
    record = {name: str(value) for name, value in embedder.space.to_metadata().items()}
    milvus.create_collection(COLLECTION, schema=schema, index_params=index, properties=record)
    for start in range(0, len(paths), BATCH):
        batch = paths[start : start + BATCH]
        rows = zip(batch, embedder.embed(batch).tolist(), strict=True)
        milvus.upsert(COLLECTION, [{"path": path, "vector": vector} for path, vector in rows])


if __name__ == "__main__":
    run(main, __doc__, store="photographs.milvus.db", milvus="")
