"""docs/search/re-embedding.md, step by step: two models, one alias, searches at every moment."""

import importlib
import sys

import numpy as np
import pytest

from bootleg_search import ImageEmbedder, MixedSpacesError
from tests import images

from .conftest import EXAMPLES, needs
from .serving import serving


@pytest.fixture(scope="module")
def steps():
    """The example as a module."""
    needs("qdrant_client")
    sys.path.insert(0, str(EXAMPLES))
    try:
        yield importlib.import_module("re_embedding")
    finally:
        sys.path.remove(str(EXAMPLES))


@pytest.fixture(scope="module")
def newer(tiny_bundle):
    """A service of another model, whose vectors even have another length."""
    with serving(tiny_bundle) as url:
        yield url


def truth(embedder, paths, query, top):
    """The nearest by exact search in an embedder's space."""
    cosines = embedder.embed(paths) @ embedder.embed(query)[0]
    order = np.argsort(-cosines)[:top]
    return [(paths[row], float(cosines[row])) for row in order]


def same(found, wanted):
    np.testing.assert_allclose([c for _, c in found], [c for _, c in wanted], atol=1e-5)
    assert {path for path, _ in found} == {path for path, _ in wanted}


def test_searches_are_right_before_during_and_after(steps, service, newer, photos, query, tmp_path):
    from qdrant_client import QdrantClient

    paths = sorted(str(path) for path in photos.rglob("*.jpg"))
    added = tmp_path / "added.jpg"
    added.write_bytes(images.jpeg((images.scene(48, 64, seed=5) * 0.9).astype(np.uint8)))
    qdrant = QdrantClient(path=str(tmp_path / "store"))
    with ImageEmbedder(service) as old, ImageEmbedder(newer) as new:
        assert old.space.dimensions != new.space.dimensions

        steps.write(qdrant, [old], paths)
        steps.switch(qdrant, old.space)
        same(steps.search(qdrant, service, query, 3), truth(old, paths, query, 3))
        with pytest.raises(MixedSpacesError, match=newer):  # the service was upgraded, the collection was not
            steps.search(qdrant, newer, query, 3)

        steps.write(qdrant, [old, new], [str(added)])  # dual write
        paths.append(str(added))
        steps.write(qdrant, [new], paths[:4])  # the backfill begins, and is stopped
        same(steps.search(qdrant, service, query, 3), truth(old, paths, query, 3))
        assert steps.missing(qdrant, new.space, paths) == paths[4:-1]
        steps.write(qdrant, [new], steps.missing(qdrant, new.space, paths))
        assert steps.missing(qdrant, new.space, paths) == []

        steps.switch(qdrant, new.space)
        same(steps.search(qdrant, newer, query, 3), truth(new, paths, query, 3))
        with pytest.raises(MixedSpacesError, match=service):
            steps.search(qdrant, service, query, 3)
        steps.switch(qdrant, old.space)  # and back, while the old one is still there
        same(steps.search(qdrant, service, query, 3), truth(old, paths, query, 3))
        steps.switch(qdrant, new.space)

        steps.drop(qdrant, old.space)
        assert not qdrant.collection_exists(steps.collection_of(old.space))
        same(steps.search(qdrant, newer, query, 3), truth(new, paths, query, 3))
    qdrant.close()


def test_the_program_goes_through_all_steps(example, nearest, service, newer, photos):
    needs("qdrant_client")
    found = example("re_embedding", service, "--new", newer)
    assert [path for path, _ in found[:4]] == [path for path, _ in nearest[:4]]
    assert len(found) == 8
