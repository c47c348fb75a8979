"""A bundle with every kind of file, a server, and means that never wait."""

from __future__ import annotations

import contextlib
import shutil

import numpy as np
import pytest

from bootleg_bundle.bundle import write_bundle
from bootleg_bundle.manifest import GOLDEN_NAME, Graph, Head, PixelClass
from bootleg_bundle.transfer import Means
from bootleg_bundle.transfer.retry import Retry
from bootleg_bundle.transfer.web import WebSettings
from tests import bundles
from tests.bundle.transfer.site import Site

HEAD_NAME, DATA_NAME = "heads/road.onnx", "encoder.fp32.onnx.data"
FILES = [bundles.GRAPH_NAME, GOLDEN_NAME, HEAD_NAME, DATA_NAME]


def write_full_bundle(folder, tiny, **changes):
    """The tiny bundle with a head and with external data, which nobody loads here."""
    shutil.copytree(tiny.path, folder)
    (folder / "heads").mkdir()
    rng = np.random.default_rng(1)
    (folder / HEAD_NAME).write_bytes(rng.bytes(5_000))
    (folder / DATA_NAME).write_bytes(rng.bytes(200_000))
    head = Head(
        input="patch_tokens",
        graph=Graph(file=HEAD_NAME, opset=20),
        classes=(PixelClass(name="road", color=(1, 2, 3)), PixelClass(name="sky", color=(4, 5, 6))),
        grid=(2, 2),
    )
    graphs = {"fp32": Graph(file=bundles.GRAPH_NAME, opset=bundles.OPSET, external_data=(DATA_NAME,))}
    return write_bundle(folder, bundles.manifest_fields(graphs=graphs, heads={"road": head}, **changes), FILES)


@pytest.fixture
def full(tiny_bundle, tmp_path):
    return write_full_bundle(tmp_path / "full", tiny_bundle)


@pytest.fixture
def other(tiny_bundle, tmp_path):
    return write_full_bundle(tmp_path / "other", tiny_bundle, name="other")


@pytest.fixture
def site():
    server = Site()
    yield server
    server.close()


class Notes:
    """What a transfer said, waited for and showed."""

    def __init__(self, token=None, timeout=10.0):
        self.said, self.waited, self.shown = [], [], []

        @contextlib.contextmanager
        def meter(title, total):
            yield lambda done: self.shown.append((done, total))

        self.means = Means(
            web=WebSettings(token=token, timeout_seconds=timeout),
            retry=Retry(sleep=self.waited.append, chance=lambda: 1.0, say=self.said.append),
            meter=meter,
            say=self.said.append,
        )


@pytest.fixture
def notes():
    return Notes()
