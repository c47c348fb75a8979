"""PostgreSQL with pgvector: vectors beside your other columns.

    pip install 'bootleg-vision[client]' 'psycopg[binary]' pgvector
    python examples/pgvector_search.py PHOTOS --query Q.jpg --url http://127.0.0.1:8000 --dsn postgresql://localhost/photos

The space is in a table that names every collection's.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import psycopg
from command_line import photographs, run, show
from pgvector.psycopg import register_vector

from bootleg_search import CollectionSpace, ImageEmbedder

if TYPE_CHECKING:
    from argparse import Namespace

TABLE = "photographs"
BATCH = 256


def main(asked: Namespace) -> None:
    """Fill the table if it is not there yet, then ask it."""
    with psycopg.connect(asked.dsn) as database:
        database.execute("CREATE EXTENSION IF NOT EXISTS vector")
        database.execute("CREATE TABLE IF NOT EXISTS image_collections (name text PRIMARY KEY, space jsonb NOT NULL)")
        register_vector(database)
        if recorded(database) is None:
            with ImageEmbedder(asked.url) as embedder:
                fill(database, embedder, photographs(asked.photos))
        database.commit()

        space = CollectionSpace.from_metadata(recorded(database), TABLE)
        with ImageEmbedder(asked.url, space=space) as embedder:
            vector = embedder.embed(asked.query)[0]
        rows = database.execute(
            f"SELECT path, 1 - (embedding <=> %s) FROM {TABLE} ORDER BY embedding <=> %s LIMIT %s",  # noqa: S608
            (vector, vector, asked.top),
        )
        show(rows)


def recorded(database: psycopg.Connection) -> dict | None:
    """The space that a collection was made in, None for no collection."""
    row = database.execute("SELECT space FROM image_collections WHERE name = %s", (TABLE,)).fetchone()
    return row[0] if row else None


def fill(database: psycopg.Connection, embedder: ImageEmbedder, paths: list[str]) -> None:
    """Table, rows by COPY in pgvector's binary form, index, the space's record: all in one transaction."""
    size = embedder.space.dimensions
    database.execute(f"CREATE TABLE {TABLE} (path text PRIMARY KEY, embedding vector({size}) NOT NULL)")
    with database.cursor().copy(f"COPY {TABLE} (path, embedding) FROM STDIN WITH (FORMAT BINARY)") as copy:
        copy.set_types(["text", "vector"])
        for start in range(0, len(paths), BATCH):
            batch = paths[start : start + BATCH]
            for row in zip(batch, embedder.embed(batch), strict=True):
                copy.write_row(row)
    database.execute(f"CREATE INDEX ON {TABLE} USING hnsw (embedding vector_cosine_ops)")
    record = json.dumps(embedder.space.to_metadata())
    database.execute("INSERT INTO image_collections VALUES (%s, %s)", (TABLE, record))


if __name__ == "__main__":
    run(main, __doc__, dsn="postgresql://localhost/postgres")
