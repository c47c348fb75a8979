"""Redis 8's query engine, or Redis Stack: hashes with a vector field, FT.CREATE and FT.SEARCH.

    pip install 'bootleg-vision[client]' redis
    python examples/redis_query_engine_search.py PHOTOS --query Q.jpg --url http://127.0.0.1:8000

The space is in a key beside the index. For vectors alone, redis_search.py is simpler; this one filters by other fields.
"""

from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING

import redis
from command_line import photographs, run, show
from redis.commands.search.field import TagField, VectorField
from redis.commands.search.index_definition import IndexDefinition, IndexType
from redis.commands.search.query import Query

from bootleg_search import CollectionSpace, ImageEmbedder

if TYPE_CHECKING:
    from argparse import Namespace

INDEX = "photographs"
SPACE = "photographs:space"
BATCH = 256


def main(asked: Namespace) -> None:
    """Fill the index if it is not there yet, then ask it."""
    with redis.Redis.from_url(asked.redis) as database:
        if not database.exists(SPACE):
            with ImageEmbedder(asked.url) as embedder:
                fill(database, embedder, photographs(asked.photos))

        record = json.loads(database.get(SPACE))
        with ImageEmbedder(asked.url, space=CollectionSpace.from_metadata(record, INDEX)) as embedder:
            vector = embedder.embed(asked.query)[0]
        nearest = Query(f"*=>[KNN {asked.top} @vector $asked AS distance]").sort_by("distance").dialect(2)
        nearest = nearest.return_fields("path", "distance").paging(0, asked.top)
        found = database.ft(INDEX).search(nearest, {"asked": vector.tobytes()}).docs
        show((document.path, 1 - float(document.distance)) for document in found)


def fill(database: redis.Redis, embedder: ImageEmbedder, paths: list[str]) -> None:
    """The index first, then a hash for each photograph. The space's key comes last: it says "complete"."""
    options = {"TYPE": "FLOAT32", "DIM": embedder.space.dimensions, "DISTANCE_METRIC": "COSINE"}
    fields = [TagField("path"), VectorField("vector", "HNSW", options)]
    definition = IndexDefinition(prefix=[f"{INDEX}:photo:"], index_type=IndexType.HASH)
    database.ft(INDEX).create_index(fields, definition=definition)
    for start in range(0, len(paths), BATCH):
        batch = paths[start : start + BATCH]
        pipe = database.pipeline(transaction=False)
        for path, vector in zip(batch, embedder.embed(batch), strict=True):
            key = f"{INDEX}:photo:{hashlib.sha256(path.encode()).hexdigest()}"
            pipe.hset(key, mapping={"path": path, "vector": vector.tobytes()})
        pipe.execute()
    database.set(SPACE, json.dumps(embedder.space.to_metadata()))


if __name__ == "__main__":
    run(main, __doc__, redis="redis://127.0.0.1:6379")
