"""Fixtures of the export suite: a real bundle, and copies of it to damage."""

import shutil

import numpy as np
import onnx
import pytest
from PIL import Image

from bootleg_bundle.bundle import open_bundle
from bootleg_export import precisions
from bootleg_export.build import build_bundle
from bootleg_export.calibration import read_calibration
from bootleg_export.graph import ServingGraph
from bootleg_export.options import ExportOptions
from bootleg_export.samples import natural_noise
from bootleg_training.checkpoint import load_encoder
from tests.contract.tiny import _remove_tiny, exported_bundle, tiny_checkpoint

from .headed import exported, headed, headed_bundle

__all__ = [
    "_remove_tiny",
    "bundle",
    "calibration",
    "doctored",
    "encoder",
    "exported",
    "exported_bundle",
    "full_bundle",
    "full_doctored",
    "headed",
    "headed_bundle",
    "labelled",
    "photographs",
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


@pytest.fixture(scope="session")
def photographs(tmp_path_factory):
    """A folder of images to calibrate with."""
    folder = tmp_path_factory.mktemp("photographs")
    for number, image in enumerate(natural_noise(80, 40, 48, seed=11)):
        Image.fromarray(image).save(folder / f"{number:02}.png")
    return folder


@pytest.fixture(scope="session")
def labelled(tmp_path_factory):
    """Two folders, of 60 and of 240 images, whose two classes any encoder tells apart: dark and light."""
    folders = []
    for name, count in (("learn", 60), ("score", 240)):
        folder = tmp_path_factory.mktemp(name)
        for label, shift in (("dark", 0), ("light", 128)):
            (folder / label).mkdir()
            for number, image in enumerate(natural_noise(count // 2, 32, 32, seed=count + shift)):
                Image.fromarray((image // 2 + shift).astype(np.uint8)).save(folder / label / f"{number}.png")
        folders.append(str(folder))
    return tuple(folders)


@pytest.fixture(scope="session")
def calibration(photographs, bundle):
    return read_calibration(str(photographs), bundle.manifest.preprocess)


@pytest.fixture(scope="session")
def full_bundle(tiny_checkpoint, photographs, tmp_path_factory):
    """The tiny encoder in every precision; not to be written to."""
    out = tmp_path_factory.mktemp("full") / "bundle"
    built = build_bundle(
        tiny_checkpoint, out, name="full", options=ExportOptions(("fp16", "bf16", "int8"), str(photographs))
    )
    assert built.refused == {}
    return built.bundle


@pytest.fixture
def full_doctored(full_bundle, tmp_path):
    """A copy of the bundle with every precision that a test may change."""
    return shutil.copytree(full_bundle.path, tmp_path / "full")


@pytest.fixture
def quick_export(monkeypatch, bundle):
    """Give the graph that was exported once instead of running the exporter, which takes seconds, again.

    Set ``change`` on it to have the model changed as a faulty exporter would. Its opset is that of fp32 always.
    """

    class Quick:
        change = staticmethod(lambda model: None)

    def export_onnx(graph, *, opset=20):
        model = onnx.load(bundle.graph("fp32"))
        Quick.change(model)
        return model

    monkeypatch.setattr(precisions, "export_onnx", export_onnx)
    return Quick


@pytest.fixture
def doctored(exported_bundle, tmp_path):
    """A copy of the bundle that a test may change."""
    return shutil.copytree(exported_bundle, tmp_path / "doctored")
