"""Image vectors for similarity-search backends: of one space only, prepared for cosine, in each library's own class.

    embedder = ImageEmbedder("http://127.0.0.1:8000")
    vectors = embedder.embed(["a.jpg", "b.png"])  # float32 [2, D], of length 1
    embedder.space.to_metadata()  # to be stored beside them, and checked when the collection is opened

``bootleg_search.chroma``, ``.lancedb``, ``.langchain`` and ``.llama_index`` need the library they are named for;
nothing here imports one of them.
"""

from bootleg_search.embedder import ImageEmbedder
from bootleg_search.errors import MixedSpacesError, SearchError, TextRefusedError
from bootleg_search.space import CollectionSpace

__all__ = ["CollectionSpace", "ImageEmbedder", "MixedSpacesError", "SearchError", "TextRefusedError"]
