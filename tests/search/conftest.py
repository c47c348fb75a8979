"""Two services of the shipped bundle, one under another space's name; pictures; the examples as programs."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from bootleg_bundle import default_bundle_path, open_bundle
from bootleg_client import Client
from tests import images

from .serving import in_another_space, serving

EXAMPLES = Path(__file__).parents[2] / "examples"
PICTURES = 14


def needs(*modules):
    """Skip, saying so, where a library is not installed; it is not imported here."""
    absent = [name for name in modules if importlib.util.find_spec(name) is None]
    if absent:
        pytest.skip(f"needs bootleg-vision[search-dev]: no {', '.join(absent)} here")


@pytest.fixture(scope="session")
def bundle():
    """The one that ships."""
    return open_bundle(default_bundle_path())


@pytest.fixture(scope="session")
def service(bundle):
    """Its address."""
    with serving(bundle) as url:
        yield url


@pytest.fixture(scope="session")
def stranger(bundle):
    """The address of a service with vectors of the same length in another space."""
    with serving(in_another_space(bundle)) as url:
        yield url


@pytest.fixture(scope="session")
def photos(tmp_path_factory):
    """A folder with a few pictures, one folder deeper for some."""
    folder = tmp_path_factory.mktemp("photos")
    (folder / "more").mkdir()
    for number in range(PICTURES):
        place = folder if number % 2 else folder / "more"
        (place / f"{number}.jpg").write_bytes(images.jpeg(images.scene(48, 64, seed=number)))
    return folder


@pytest.fixture(scope="session")
def query(tmp_path_factory):
    """A darker copy of one of them, elsewhere."""
    path = tmp_path_factory.mktemp("query") / "query.png"
    path.write_bytes(images.png((images.scene(48, 64, seed=5) * 0.8).astype(np.uint8)))
    return path


@pytest.fixture(scope="session")
def nearest(service, photos, query):
    """The truth: ``(path, cosine)`` of every picture, nearest first."""
    paths = sorted(str(path) for path in photos.rglob("*.jpg"))
    with Client(service) as client:
        vectors = client.embed([query, *paths]).vectors.astype(np.float64)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    cosines = vectors[1:] @ vectors[0]
    return [(paths[row], cosines[row]) for row in np.argsort(-cosines)]


@pytest.fixture
def example(photos, query, tmp_path):
    """Run an example as a person would: gives its neighbours, or with ``fails`` the one line it says."""

    def example(name, url, *options, fails=False, top=4):
        command = [sys.executable, str(EXAMPLES / f"{name}.py"), str(photos), "--query", str(query), "--url", url]
        done = subprocess.run(
            [*command, "--top", str(top), *options],
            cwd=tmp_path,
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )
        if fails:
            assert done.returncode == 1, done.stdout
            assert "Traceback" not in done.stderr, done.stderr
            return done.stderr.strip().splitlines()[-1]
        assert done.returncode == 0, done.stderr
        return [(path, float(cosine)) for cosine, path in (line.split("  ", 1) for line in done.stdout.splitlines())]

    return example


@pytest.fixture
def same(nearest):
    """Whether neighbours are the exact ones, in order."""

    def same(found, top=4):
        assert [path for path, _ in found] == [path for path, _ in nearest[:top]]
        np.testing.assert_allclose([c for _, c in found], [c for _, c in nearest[:top]], atol=5e-4)

    return same
