"""The classes of libraries, used as the libraries use them."""

import asyncio
import io
from pathlib import Path

import numpy as np
import pytest

from bootleg_search import CollectionSpace, ImageEmbedder, MixedSpacesError, TextRefusedError

from .conftest import needs


@pytest.fixture(scope="module")
def paths(photos):
    return sorted(str(path) for path in photos.rglob("*.jpg"))


@pytest.fixture(scope="module")
def vectors(service, paths):
    """What every class has to give."""
    with ImageEmbedder(service) as embedder:
        return embedder.embed(paths)


def close(found, wanted):
    np.testing.assert_allclose(np.array(found), wanted, atol=2e-5)


class TestLangChain:
    @pytest.fixture
    def embeddings(self, service):
        needs("langchain_core")
        from bootleg_search.langchain import BootlegEmbeddings

        embeddings = BootlegEmbeddings(service)
        yield embeddings
        embeddings.embedder.close()

    def test_documents_queries_and_images(self, embeddings, paths, vectors):
        close(embeddings.embed_documents(paths), vectors)
        close(embeddings.embed_query(paths[0]), vectors[0])
        close(embeddings.embed_image([Path(path).read_bytes() for path in paths[:2]]), vectors[:2])
        close(asyncio.run(embeddings.aembed_documents(paths[:3])), vectors[:3])

    @pytest.mark.parametrize("text", ["a red fox", "x" * 9000, "zero\0byte", ""])
    def test_a_text_is_refused_by_name(self, embeddings, text):
        with pytest.raises(TextRefusedError, match="takes images only"):
            embeddings.embed_query(text)


class TestLlamaIndex:
    @pytest.fixture
    def model(self, service):
        needs("llama_index")
        from bootleg_search.llama_index import BootlegImageEmbedding

        model = BootlegImageEmbedding(service, embed_batch_size=4)
        yield model
        model._embedder.close()

    def test_images_one_by_one_in_batches_and_awaited(self, model, paths, vectors):
        close(model.get_image_embedding(paths[0]), vectors[0])
        close(model.get_image_embedding_batch(paths), vectors)
        close(model.get_image_embedding(io.BytesIO(Path(paths[1]).read_bytes())), vectors[1])
        close(asyncio.run(model.aget_image_embedding_batch(paths[:5])), vectors[:5])

    def test_a_text_is_refused(self, model):
        for ask in (model.get_text_embedding, model.get_query_embedding):
            with pytest.raises(TextRefusedError, match="takes images only"):
                ask("a red fox")

    def test_it_says_its_model_and_space(self, model, bundle):
        assert model.model_name == bundle.manifest.name
        assert model.space.embedding_space == bundle.manifest.embedding_space


class TestChroma:
    @pytest.fixture
    def made(self):
        needs("chromadb")
        from bootleg_search.chroma import BootlegImages

        return BootlegImages

    def test_the_function_is_made_again_of_its_configuration(self, made, service, stranger, paths, vectors):
        from chromadb.utils.embedding_functions import known_embedding_functions

        first = made(service)
        close(first(paths), vectors)
        config = first.get_config()
        again = known_embedding_functions["bootleg-vision"].build_from_config(config)
        close(again.embed_query(paths[:1]), vectors[:1])
        assert again.get_config() == config
        other = made.build_from_config({**config, "url": stranger})
        with pytest.raises(MixedSpacesError):
            other(paths[:1])
        for function in (first, again):
            function.embedder.close()

    def test_no_key_is_stored(self, made, bundle):
        space = CollectionSpace(bundle.manifest.embedding_space, 192)
        assert "secret" not in str(made("http://x", space=space, api_key="secret").get_config())


class TestLanceDb:
    @pytest.fixture
    def made(self):
        needs("lancedb")
        from bootleg_search.lancedb import BootlegImages

        return BootlegImages

    def test_sources_and_queries(self, made, service, paths, vectors):
        import pyarrow as pa

        function = made.of(service)
        assert function.ndims() == vectors.shape[1]
        close(function.compute_source_embeddings(pa.array(paths)), vectors)
        close(function.compute_query_embeddings_with_retry(paths[0]), vectors[:1])
        function.embedder().close()

    def test_the_address_is_a_variable_and_the_key_is_not_stored(self, made, service, stranger, paths):
        from lancedb.embeddings import get_registry

        function = made.of(service, api_key="secret")
        stored = function.safe_model_dump()
        assert "secret" not in str(stored)
        get_registry().set_var("bootleg_url", stranger)
        again = get_registry().get("bootleg-vision").create(**stored)
        assert (again.url, again.api_key) == (stranger, "secret")
        with pytest.raises(MixedSpacesError, match=stranger):
            again.compute_query_embeddings_with_retry(paths[0])
