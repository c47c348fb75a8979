"""Fixtures of the export suite: a real bundle, and copies of it to damage."""

import shutil

import onnx
import pytest

from bootleg_bundle.bundle import open_bundle
from bootleg_export import build
from bootleg_export.graph import ServingGraph
from bootleg_training.checkpoint import load_encoder
from tests.contract.tiny import _remove_tiny, exported_bundle, tiny_checkpoint

__all__ = [
    "_remove_tiny",
    "bundle",
    "doctored",
    "encoder",
    "exported_bundle",
    "quick_export",
    "serving_graph",
    "tiny_checkpoint",
]


@pytest.fixture(scope="session")
def bundle(exported_bundle):
    return open_bundle(exported_bundle)


@pytest.fixture(scope="session")
def encoder(tiny_checkpoint):
    return load_encoder(tiny_checkpoint)[0]


@pytest.fixture(scope="session")
def serving_graph(tiny_checkpoint):
    encoder, config = load_encoder(tiny_checkpoint)
    return ServingGraph(encoder, config.preprocess, config.target_layers).eval()


@pytest.fixture
def quick_export(monkeypatch, bundle):
    """Give the graph that was exported once instead of running the exporter, which takes seconds, again.

    Set ``change`` on it to have the file changed as a faulty exporter would.
    """

    class Quick:
        change = staticmethod(lambda model: None)

    def export_onnx(graph, path):
        model = onnx.load(bundle.graph("fp32"))
        Quick.change(model)
        onnx.save(model, path)

    monkeypatch.setattr(build, "export_onnx", export_onnx)
    return Quick


@pytest.fixture
def doctored(exported_bundle, tmp_path):
    """A copy of the bundle that a test may change."""
    return shutil.copytree(exported_bundle, tmp_path / "doctored")
