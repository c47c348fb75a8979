"""LangChain: any vector store that takes ``Embeddings``; here the one in memory, kept in a file.

    pip install 'bootleg-vision[client]' langchain-core
    python examples/langchain_search.py PHOTOS --query Q.jpg --url http://127.0.0.1:8000

The space is in the metadata of every document.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from command_line import photographs, run, show
from langchain_core.vectorstores import InMemoryVectorStore

from bootleg_search import CollectionSpace
from bootleg_search.langchain import BootlegEmbeddings

if TYPE_CHECKING:
    from argparse import Namespace


def main(asked: Namespace) -> None:
    """Fill the store if it is not there yet, then ask it."""
    if not Path(asked.store).is_file():
        embeddings = BootlegEmbeddings(asked.url)
        store = InMemoryVectorStore(embeddings)
        paths = photographs(asked.photos)
        store.add_texts(paths, metadatas=[embeddings.space.to_metadata()] * len(paths))  # the space beside each vector
        store.dump(asked.store)

    stored = InMemoryVectorStore.load(asked.store, BootlegEmbeddings(asked.url))
    record = next(iter(stored.store.values()))["metadata"]
    embeddings = BootlegEmbeddings(asked.url, space=CollectionSpace.from_metadata(record, asked.store))
    store = InMemoryVectorStore.load(asked.store, embeddings)
    found = store.similarity_search_with_score(str(asked.query), k=asked.top)
    show((document.page_content, cosine) for document, cosine in found)


if __name__ == "__main__":
    run(main, __doc__, store="photographs.langchain.json")
