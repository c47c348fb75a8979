"""LanceDB: rows are added and asked for as images, and the table knows how they become vectors.

    pip install 'bootleg-vision[client]' lancedb
    python examples/lancedb_search.py PHOTOS --query Q.jpg --url http://127.0.0.1:8000

The space is in the table's metadata, as a field of its embedding function.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import lancedb
from command_line import photographs, run, show
from lancedb.embeddings import get_registry
from lancedb.pydantic import LanceModel, Vector

from bootleg_search.lancedb import BootlegImages  # importing it also registers it, which opening a table needs

if TYPE_CHECKING:
    from argparse import Namespace

TABLE = "photographs"


def main(asked: Namespace) -> None:
    """Fill the table if it is not there yet, then ask it."""
    database = lancedb.connect(asked.store)
    if TABLE not in database.list_tables().tables:
        fill(database, asked)

    get_registry().set_var("bootleg_url", asked.url)  # where the service is today; by default where it was then
    table = database.open_table(TABLE)  # its function, space and all, comes out of the table's own metadata
    found = table.search(asked.query, vector_column_name="vector").distance_type("cosine").limit(asked.top).to_list()
    show((row["path"], 1 - row["_distance"]) for row in found)


def fill(database: lancedb.DBConnection, asked: Namespace) -> None:
    """A table whose column ``vector`` is computed of its column ``path``."""
    function = BootlegImages.of(asked.url)

    class Photograph(LanceModel):
        path: str = function.SourceField()
        vector: Vector(function.ndims()) = function.VectorField()  # type: ignore[valid-type]

    table = database.create_table(TABLE, schema=Photograph)
    table.add([{"path": path} for path in photographs(asked.photos)])


if __name__ == "__main__":
    run(main, __doc__, store="photographs.lance")
