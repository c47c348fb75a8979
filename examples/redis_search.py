"""Redis 8 vector sets: VADD and VSIM take float32 bytes as they are.

    pip install 'bootleg-vision[client]' redis
    python examples/redis_search.py PHOTOS --query Q.jpg --url http://127.0.0.1:8000 --redis redis://127.0.0.1:6379

The space is in a key beside the set.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import redis
from command_line import photographs, run, show

from bootleg_search import CollectionSpace, ImageEmbedder

if TYPE_CHECKING:
    from argparse import Namespace

VECTORS = "photographs:vectors"
SPACE = "photographs:space"
BATCH = 256


def main(asked: Namespace) -> None:
    """Fill the set if it is not there yet, then ask it."""
    with redis.Redis.from_url(asked.redis) as database:
        if not database.exists(SPACE):
            with ImageEmbedder(asked.url) as embedder:
                fill(database, embedder, photographs(asked.photos))

        record = json.loads(database.get(SPACE))
        with ImageEmbedder(asked.url, space=CollectionSpace.from_metadata(record, VECTORS)) as embedder:
            vector = embedder.embed(asked.query)[0]
        found = database.vset().vsim(VECTORS, vector.tobytes(), with_scores=True, count=asked.top, ef=200)
        show((path.decode(), 2 * score - 1) for path, score in found.items())  # Redis gives (1 + cosine) / 2


def fill(database: redis.Redis, embedder: ImageEmbedder, paths: list[str]) -> None:
    """A set that keeps float32; without NOQUANT Redis keeps 8 bits a number. The space's key comes last: "complete"."""
    for start in range(0, len(paths), BATCH):
        batch = paths[start : start + BATCH]
        pipe = database.pipeline(transaction=False)
        for path, vector in zip(batch, embedder.embed(batch), strict=True):
            pipe.execute_command("VADD", VECTORS, "FP32", vector.tobytes(), path, "NOQUANT")
        pipe.execute()
    database.set(SPACE, json.dumps(embedder.space.to_metadata()))


if __name__ == "__main__":
    run(main, __doc__, redis="redis://127.0.0.1:6379")
