"""The record of a collection's space, and the embedder that keeps to it."""

import json
import subprocess
import sys

import httpx
import numpy as np
import pytest

from bootleg_client import AuthenticationError, Client
from bootleg_search import CollectionSpace, ImageEmbedder, MixedSpacesError

SPACE = CollectionSpace("es1-0", 3)
CENTRED = CollectionSpace.centred_on(np.array([[1.0, 2, 3], [3, 2, 1]]), "es1-0")


@pytest.mark.parametrize("space", [SPACE, CENTRED], ids=["plain", "centred"])
def test_a_record_comes_back_out_of_json_and_out_of_strings(space):
    record = json.loads(json.dumps(space.to_metadata()))
    assert CollectionSpace.from_metadata(record, "c") == space
    strings = {name: str(value) for name, value in record.items()} | {"colour": "blue"}
    assert CollectionSpace.from_metadata(strings, "c") == space


def test_prepared_vectors_are_centred_and_of_length_1():
    np.testing.assert_allclose(SPACE.prepare(np.array([[3.0, 0, 4], [0, 0, 0]])), [[0.6, 0, 0.8], [0, 0, 0]], atol=1e-7)
    np.testing.assert_allclose(CENTRED.prepare(np.array([[5.0, 2, 2]])), [[1, 0, 0]], atol=1e-7)  # less (2, 2, 2)


def test_what_is_given_stays_as_it_was():
    raw = np.array([[1, 2, 3]], np.float32)
    CENTRED.prepare(raw)
    assert raw.tolist() == [[1, 2, 3]]


@pytest.mark.parametrize(
    "record",
    [None, {}, {"embedding_space": "es1-0"}, {"embedding_space": "es1-0", "dimensions": "many"}, {"dimensions": 3}],
)
def test_a_collection_that_does_not_say_is_refused(record):
    with pytest.raises(MixedSpacesError, match=r"collection 'cats' does not say"):
        CollectionSpace.from_metadata(record, "cats")


@pytest.mark.parametrize(
    ("other", "says"),
    [
        (CollectionSpace("es1-1", 3), "has embedding_space es1-0, the service at http://x gives es1-1"),
        (CollectionSpace("es1-0", 4), "has dimensions 3, the service at http://x gives 4"),
        (CENTRED, "has centre none, the service at http://x gives 0000004000000040"),
    ],
)
def test_spaces_that_differ_are_named(other, says):
    SPACE.check(CollectionSpace("es1-0", 3), "http://x")
    with pytest.raises(MixedSpacesError) as fault:
        SPACE.check(other, "http://x")
    assert says in str(fault.value)


class Moved(httpx.BaseTransport):
    """Sends every request to the service that is behind the address at the moment."""

    def __init__(self, url):
        self.url = url
        self._real = httpx.HTTPTransport()

    def handle_request(self, request):
        request.url = httpx.URL(self.url).copy_with(raw_path=request.url.raw_path)
        return self._real.handle_request(request)

    def close(self):
        self._real.close()  # by two clients in turn: it opens again


def test_an_embedder_refuses_a_model_that_changes_under_it(service, stranger, query):
    moved = Moved(service)
    with ImageEmbedder("http://somewhere", transport=moved) as embedder:
        before = embedder.embed(query)
        moved.url = stranger
        with pytest.raises(MixedSpacesError, match=r"no longer serves es1-"):
            embedder.embed(query)
        moved.url = service
        np.testing.assert_allclose(embedder.embed(query), before, atol=1e-6)


def test_an_embedder_refuses_a_service_of_another_space(service, stranger):
    with ImageEmbedder(service) as embedder, pytest.raises(MixedSpacesError, match=stranger):
        ImageEmbedder(stranger, space=embedder.space)


def test_an_embedder_prepares_as_its_collection_does(service, query, photos):
    with Client(service) as client:
        answer = client.embed(sorted(photos.rglob("*.jpg")))
        raw = client.embed(query).vectors.astype(np.float64)
    space = CollectionSpace.centred_on(answer.vectors, answer.embedding_space)
    wanted = raw - answer.vectors.astype(np.float64).mean(axis=0)
    with ImageEmbedder(service, space=space) as embedder:
        assert embedder.space == space
        found = embedder.embed([query])
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, wanted / np.linalg.norm(wanted), atol=1e-4)


def test_the_clients_own_faults_stay_what_they_are():
    refuse = httpx.MockTransport(lambda request: httpx.Response(401))
    with pytest.raises(AuthenticationError):
        ImageEmbedder("http://x", transport=refuse)


WITHOUT_LIBRARIES = """
import sys
for name in ("chromadb", "faiss", "lancedb", "langchain_core", "llama_index", "onnxruntime", "bootleg_service"):
    sys.modules[name] = None  # importing it raises
import bootleg_search
print(bootleg_search.CollectionSpace("es1-0", 3).to_metadata())
"""


def test_the_package_needs_no_search_library_and_no_runtime():
    done = subprocess.run([sys.executable, "-c", WITHOUT_LIBRARIES], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout == "{'embedding_space': 'es1-0', 'dimensions': 3}\n"
