"""The walk-through on a few pictures, and the arithmetic of its published recall."""

import html.parser
import json
import subprocess
import sys

import numpy as np
import pytest

from .conftest import needs


@pytest.fixture
def embedded(photos, tmp_path):
    """What `bootleg embed` writes for the pictures, one of them broken."""
    broken = photos / "broken.jpg"
    broken.write_bytes(b"no image")
    try:
        command = [sys.executable, "-m", "bootleg_cli", "embed", str(photos), "--out", str(tmp_path / "photos.npy")]
        done = subprocess.run([*command, "--max-corrupt", "0.5"], capture_output=True, text=True, check=False)
    finally:
        broken.unlink()
    assert done.returncode == 3, done.stderr  # one failed
    return tmp_path / "photos.npy"


class Sources(html.parser.HTMLParser):
    """Where a page's pictures and links come from, and its text."""

    def __init__(self, text):
        super().__init__()
        self.sources, self.words = [], []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.sources += [value for name, value in attrs if name in {"src", "href"}]

    def handle_data(self, data):
        self.words.append(data.strip())


def test_vectors_become_a_page_of_neighbours(embedded, example, service, stranger, tmp_path):
    needs("faiss")
    options = ["--vectors", str(embedded), "--page", str(tmp_path / "page.html")]
    found = example("walk_through", service, *options)
    assert found[0][0] == "5.jpg"
    again = example("walk_through", service, *options)  # from the stored index
    assert again == found
    assert "MixedSpacesError" in example("walk_through", stranger, *options, fails=True)

    page = Sources((tmp_path / "page.html").read_text(encoding="utf-8"))
    assert len(page.sources) == 1 + len(found)
    assert all(source.startswith("data:image/jpeg;base64,") for source in page.sources)
    assert "14 images" in " ".join(page.words)
    assert "the index found 4." in " ".join(page.words)


def test_recall_counts_true_neighbours_in_any_order():
    needs("faiss")
    from benchmarks.search import recall

    truth = np.array([[1, 2, 3, 4], [5, 6, 7, 8]])
    assert recall(truth, truth) == 1
    assert recall(truth[:, ::-1], truth) == 1
    assert recall(np.array([[1, 2, 9, 9], [-1, -1, -1, 8]]), truth) == 3 / 8


def test_the_benchmark_measures_what_it_says(tmp_path):
    needs("faiss")
    from benchmarks.search import indexes, number_types
    from bootleg_search import CollectionSpace

    rng = np.random.default_rng(0)
    space = CollectionSpace("es1-0", 32)
    vectors, queries = (space.prepare(rng.normal(size=(n, 32))) for n in (4000, 50))
    rows = {row["parameters"]: row["recall_at_10"] for row in indexes(vectors, queries, rounds=1)}
    assert rows["float32"] == 1
    assert rows["100 lists, 1 probed"] < rows["100 lists, 4 probed"] < rows["100 lists, 16 probed"] <= 1
    assert rows["M 32, efConstruction 200, efSearch 64"] > 0.9
    types = [row["recall_at_10"] for row in number_types("x", vectors, queries)]
    assert types[1] < types[0]  # a bit a number loses more than eight
    json.dumps(list(rows.items()))
