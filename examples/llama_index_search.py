"""LlamaIndex: a multi-modal index whose image nodes are embedded by the service.

    pip install 'bootleg-vision[client]' llama-index-core
    python examples/llama_index_search.py PHOTOS --query Q.jpg --url http://127.0.0.1:8000

The space is in the metadata of every node.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from command_line import photographs, run, show
from llama_index.core import MockEmbedding, StorageContext, load_index_from_storage
from llama_index.core.indices import MultiModalVectorStoreIndex
from llama_index.core.schema import ImageNode

from bootleg_search import CollectionSpace
from bootleg_search.llama_index import BootlegImageEmbedding

if TYPE_CHECKING:
    from argparse import Namespace


def main(asked: Namespace) -> None:
    """Fill the index if it is not there yet, then ask it."""
    no_text = MockEmbedding(embed_dim=1)  # the index insists on a model for texts; nothing here has any
    if not Path(asked.store).is_dir():
        model = BootlegImageEmbedding(asked.url)
        record = model.space.to_metadata()
        nodes = [ImageNode(image_path=path, metadata=record) for path in photographs(asked.photos)]
        index = MultiModalVectorStoreIndex(nodes, embed_model=no_text, image_embed_model=model)
        index.storage_context.persist(asked.store)

    storage = StorageContext.from_defaults(persist_dir=asked.store)
    record = next(iter(storage.docstore.docs.values())).metadata
    model = BootlegImageEmbedding(asked.url, space=CollectionSpace.from_metadata(record, asked.store))
    index = load_index_from_storage(storage, embed_model=no_text, image_embed_model=model)
    retriever = index.as_retriever(image_similarity_top_k=asked.top)
    found = retriever.image_to_image_retrieve(str(asked.query))
    show((hit.node.image_path, hit.score) for hit in found)


if __name__ == "__main__":
    run(main, __doc__, store="photographs.llama_index")
