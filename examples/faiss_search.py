"""FAISS: an HNSW index in one file.

    pip install 'bootleg-vision[client]' faiss-cpu
    python examples/faiss_search.py PHOTOS --query Q.jpg --url http://127.0.0.1:8000

Space and paths are in a JSON file beside it.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import faiss
from command_line import photographs, run, show

from bootleg_search import CollectionSpace, ImageEmbedder

if TYPE_CHECKING:
    from argparse import Namespace

LINKS = 32
"""Of each vector in the graph; more find more and take more memory."""


def main(asked: Namespace) -> None:
    """Fill the index if it is not there yet, then ask it."""
    store, beside = Path(asked.store), Path(asked.store).with_suffix(".json")
    if not beside.is_file():
        with ImageEmbedder(asked.url) as embedder:
            fill(store, beside, embedder, photographs(asked.photos))

    record = json.loads(beside.read_text(encoding="utf-8"))
    with ImageEmbedder(asked.url, space=CollectionSpace.from_metadata(record["space"], str(store))) as embedder:
        vectors = embedder.embed(asked.query)
    cosines, rows = faiss.read_index(str(store)).search(vectors, asked.top)
    show((record["paths"][row], cosine) for cosine, row in zip(cosines[0], rows[0], strict=True) if row >= 0)


def fill(store: Path, beside: Path, embedder: ImageEmbedder, paths: list[str]) -> None:
    """Vectors have length 1, so their inner product is their cosine. The JSON file comes last: it says "complete"."""
    index = faiss.IndexHNSWFlat(embedder.space.dimensions, LINKS, faiss.METRIC_INNER_PRODUCT)
    index.hnsw.efConstruction, index.hnsw.efSearch = 200, 64
    index.add(embedder.embed(paths))
    faiss.write_index(index, str(store))
    record = {"space": embedder.space.to_metadata(), "paths": paths}
    beside.write_text(json.dumps(record), encoding="utf-8")


if __name__ == "__main__":
    run(main, __doc__, store="photographs.faiss")
