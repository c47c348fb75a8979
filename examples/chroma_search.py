"""Chroma: the collection embeds what it is given and asked for.

    pip install 'bootleg-vision[client]' chromadb
    python examples/chroma_search.py PHOTOS --query Q.jpg --url http://127.0.0.1:8000

The space is in the collection's metadata, and in the stored configuration of its embedding function.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import chromadb
import numpy as np
from command_line import photographs, run, show
from PIL import Image

from bootleg_search import CollectionSpace
from bootleg_search.chroma import BootlegImages

if TYPE_CHECKING:
    from argparse import Namespace

COLLECTION = "photographs"
BATCH = 64


def main(asked: Namespace) -> None:
    """Fill the collection if it is not there yet, then ask it."""
    chroma = chromadb.PersistentClient(asked.store, settings=chromadb.Settings(anonymized_telemetry=False))
    if COLLECTION not in {collection.name for collection in chroma.list_collections()}:
        function = BootlegImages(asked.url)
        record = function.embedder.space.to_metadata()
        collection = chroma.create_collection(COLLECTION, embedding_function=function, metadata=record)
        paths = photographs(asked.photos)
        for start in range(0, len(paths), BATCH):
            batch = paths[start : start + BATCH]
            collection.add(ids=batch, images=[pixels(path) for path in batch])

    record = chroma.get_collection(COLLECTION).metadata
    function = BootlegImages(asked.url, space=CollectionSpace.from_metadata(record, COLLECTION))
    collection = chroma.get_collection(COLLECTION, embedding_function=function)
    found = collection.query(query_images=[pixels(asked.query)], n_results=asked.top, include=["distances"])
    show((path, 1 - distance) for path, distance in zip(found["ids"][0], found["distances"][0], strict=True))


def pixels(path: str) -> np.ndarray:
    """An image as Chroma takes it: uint8 ``[h, w, 3]``; it travels to the service as PNG, which loses nothing."""
    return np.asarray(Image.open(path).convert("RGB"))


if __name__ == "__main__":
    run(main, __doc__, store="photographs.chroma")
