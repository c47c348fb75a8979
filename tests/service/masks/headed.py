"""The tiny bundle with two heads of real ONNX, which tell red, blue and white patches apart."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any

import httpx
import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from bootleg_bundle.bundle import Bundle, write_bundle
from bootleg_bundle.manifest import GOLDEN_NAME, Graph, Head, PixelClass, golden_key
from bootleg_service.app import create_app
from tests.bundles import _MIX, DIM, GRAPH_NAME, GRID, OPSET, SIDE, manifest_fields, reference, write_tiny_bundle
from tests.service.serving import settings

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

COLORS = (
    PixelClass(name="red", color=(200, 0, 0)),
    PixelClass(name="blue", color=(0, 0, 200)),
    PixelClass(name="white", color=(200, 200, 200)),
)
OF_COLOR = np.array([[1, -1, 0.6], [0, 0, 0.6], [-1, 1, 0.6]])  # from red, green and blue to logits
UNMIX = (np.linalg.pinv(_MIX, rcond=1e-3) @ OF_COLOR).astype(np.float32)
INPUTS = {"primary": "patch_tokens", "deep": "layer_tokens"}


def write_headed_bundle(path: Path, **changed: Any) -> Bundle:
    """Write it; ``changed`` are fields of both heads."""
    write_tiny_bundle(path)
    heads: dict[str, Any] = {}
    (path / "heads").mkdir()
    with np.load(path / GOLDEN_NAME) as file:
        golden = dict(file)
    for name, fed_by in INPUTS.items():
        onnx.save(_head(fed_by), path / "heads" / f"{name}.onnx")
        graph = Graph(file=f"heads/{name}.onnx", opset=OPSET)
        fields = {"input": fed_by, "graph": graph, "classes": COLORS, "grid": (GRID, GRID), **changed}
        heads[name] = Head(**fields)
        golden[golden_key(name)] = logits(golden["pixels"], fed_by)
    np.savez(path / GOLDEN_NAME, allow_pickle=False, **golden)
    files = [GRAPH_NAME, GOLDEN_NAME, *(head.graph.file for head in heads.values())]
    return write_bundle(path, manifest_fields(heads=heads), files)


def logits(pixels: np.ndarray, fed_by: str = "patch_tokens") -> np.ndarray:
    """What a head answers, in numpy: ``[n, 3, GRID, GRID]``."""
    tokens = reference(pixels)[fed_by]
    tokens = tokens.sum(axis=1) if fed_by == "layer_tokens" else tokens
    return np.ascontiguousarray((tokens @ UNMIX).transpose(0, 3, 1, 2), np.float32)


def _head(fed_by: str) -> onnx.ModelProto:
    layers = fed_by == "layer_tokens"
    constants = {"unmix": UNMIX, "layer": np.array([1], np.int64)}
    nodes = [
        helper.make_node("ReduceSum", [fed_by, "layer"], ["tokens"], keepdims=0)
        if layers
        else helper.make_node("Identity", [fed_by], ["tokens"]),
        helper.make_node("MatMul", ["tokens", "unmix"], ["last"]),
        helper.make_node("Transpose", ["last"], ["logits"], perm=[0, 3, 1, 2]),
    ]
    shape = ["batch", *([2] if layers else []), GRID, GRID, DIM]
    graph = helper.make_graph(
        nodes,
        "head",
        [helper.make_tensor_value_info(fed_by, TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["batch", 3, GRID, GRID])],
        [numpy_helper.from_array(value, key) for key, value in constants.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=10)


def quarters() -> np.ndarray:
    """A picture ``[SIDE, SIDE, 3]`` of four plain quarters: red, blue, white, red."""
    picture = np.zeros((SIDE, SIDE, 3), np.uint8)
    half = SIDE // 2
    for (top, left), channels in zip(((0, 0), (0, half), (half, 0), (half, half)), (0, 2, slice(3), 0), strict=True):
        picture[top : top + half, left : left + half, channels] = 255
    return picture


@contextlib.asynccontextmanager
async def serving_bundle(bundle: Bundle, **changed: Any) -> AsyncIterator[httpx.AsyncClient]:
    """Start and stop an application around a real engine."""
    app = create_app(bundle, settings(engine__device="cpu", engine__threads=1, **changed))
    async with app.router.lifespan_context(app):
        transport = httpx.ASGITransport(app, raise_app_exceptions=False)
        async with httpx.AsyncClient(transport=transport, base_url="http://test", timeout=None) as client:
            yield client
