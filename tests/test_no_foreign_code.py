"""Nothing that comes from outside is ever run: no evaluation, no code from a hub, no shell, no unsafe graph."""

import ast

import numpy as np
import onnx
import pytest
from onnx import TensorProto

from bootleg_bundle.bundle import write_bundle
from bootleg_bundle.errors import BundleFileError
from bootleg_service.engine import open_engine
from bootleg_service.settings import EngineSettings
from tests import bundles
from tests.test_imports import ROOT, modules

EVALUATES = {"eval", "exec", "compile", "__import__", "os.system", "os.popen", "torch.hub.load", "runpy.run_path"}


def calls():
    for _, file in modules():
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call):
                yield f"{file.relative_to(ROOT)}:{node.lineno}: {ast.unparse(node)}", node


def test_nothing_is_evaluated_and_no_shell_is_started():
    found = [
        where
        for where, call in calls()
        if ast.unparse(call.func) in EVALUATES
        or any(k.arg == "shell" and ast.unparse(k.value) != "False" for k in call.keywords)
    ]
    assert not found, found


def test_no_call_lets_a_hub_bring_code():
    for where, call in calls():
        for keyword in call.keywords:
            if keyword.arg in {"trust_remote_code", "trust_repo"}:
                assert ast.unparse(keyword.value) == "False", where


def graph_with_weights_at(location):
    """A graph in the shape of the contract whose weights are said to lie somewhere else."""
    model = bundles._graph()
    for tensor in model.graph.initializer:
        if tensor.name == "mix":
            values = onnx.numpy_helper.to_array(tensor)
            tensor.ClearField("raw_data")
            tensor.data_location = TensorProto.EXTERNAL
            entries = {"location": location, "offset": "0", "length": str(values.nbytes)}
            for key, value in entries.items():
                tensor.external_data.add(key=key, value=value)
    return model.SerializeToString()


@pytest.mark.parametrize("kind", ["absolute", "above", "link", "beside"])
def test_a_graph_that_takes_its_weights_from_elsewhere_is_not_served(tmp_path, kind):
    bundle = bundles.write_tiny_bundle(tmp_path / "bundle")
    weights = np.linspace(-1, 1, 3 * bundles.DIM, dtype=np.float32).tobytes()
    outside = tmp_path / "outside.bin"
    outside.write_bytes(weights)
    match kind:
        case "absolute":
            location = str(outside)
        case "above":
            location = "../outside.bin"
        case "link":
            (bundle.path / "weights.bin").symlink_to(outside)
            location = "weights.bin"
        case "beside":  # in the folder, but nobody vouches for it
            (bundle.path / "weights.bin").write_bytes(weights)
            location = "weights.bin"
    (bundle.path / bundles.GRAPH_NAME).write_bytes(graph_with_weights_at(location))
    (bundle.path / "manifest.json").unlink()
    changed = write_bundle(bundle.path, bundles.manifest_fields(), [bundles.GRAPH_NAME, "golden.npz"])
    with pytest.raises(BundleFileError, match=r"encoder\.fp32\.onnx takes weights from .* does not list"):
        open_engine(changed, EngineSettings(device="cpu", threads=1))
