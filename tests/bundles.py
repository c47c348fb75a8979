"""A bundle small enough to write in every test session, around a real ONNX graph that needs no torch to make."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from bootleg_bundle.bundle import Bundle, write_bundle
from bootleg_bundle.manifest import (
    GOLDEN_NAME,
    GOLDEN_OUTPUTS,
    Architecture,
    Graph,
    Outputs,
    Parity,
    embedding_space_id,
)
from bootleg_bundle.preprocess import PreprocessSpec
from tests.provenance import made_up

if TYPE_CHECKING:
    from pathlib import Path

SIDE, GRID, DIM = 8, 2, 6
GRAPH_NAME = "encoder.fp32.onnx"
OPSET = 18

_MIX = np.linspace(-1, 1, 3 * DIM, dtype=np.float32).reshape(3, DIM)


def write_tiny_bundle(path: Path, *, name: str = "tiny", scale: int = 1) -> Bundle:
    """Mean colour of each of 2 x 2 patches, mixed into 6 channels: the bundle contract without a network.

    Another ``scale`` is another model: all its outputs are so many times as large, in a space of their own.
    """
    path.mkdir(parents=True)
    onnx.save(_graph(scale), path / GRAPH_NAME)
    pixels = np.random.default_rng(0).integers(256, size=(2, SIDE, SIDE, 3), dtype=np.uint8)
    expected = {key: scale * array for key, array in reference(pixels).items() if key in GOLDEN_OUTPUTS}
    np.savez(path / GOLDEN_NAME, allow_pickle=False, pixels=pixels, **expected)
    space = embedding_space_id(str(scale - 1) * 64, PreprocessSpec(height=SIDE, width=SIDE), "mean")
    return write_bundle(path, manifest_fields(name=name, embedding_space=space), [GRAPH_NAME, GOLDEN_NAME])


def manifest_fields(**changes: Any) -> dict[str, Any]:
    """All fields of a manifest but ``files``."""
    spec = PreprocessSpec(height=SIDE, width=SIDE)
    return {
        "name": "tiny",
        "embedding_space": embedding_space_id("0" * 64, spec, "mean"),
        "architecture": Architecture(
            name="none",
            image_size=SIDE,
            patch_size=SIDE // GRID,
            width=DIM,
            depth=2,
            heads=1,
            registers=0,
            parameters=_MIX.size,
        ),
        "preprocess": spec,
        "outputs": Outputs(dim=DIM, grid=(GRID, GRID), layers=(1, 2)),
        "graphs": {"fp32": Graph(file=GRAPH_NAME, opset=OPSET)},
        "parity": (
            Parity(
                precision="fp32",
                output="embedding",
                images=2,
                relative_frobenius=0.0,
                cosine_min=1.0,
                cosine_p1=1.0,
                max_abs=0.0,
            ),
        ),
        "provenance": made_up(),
        **changes,
    }


def reference(pixels: np.ndarray) -> dict[str, np.ndarray]:
    """What the graph computes, in numpy."""
    p = SIDE // GRID
    colours = pixels.astype(np.float32).reshape(-1, GRID, p, GRID, p, 3).mean(axis=(2, 4)) / 255
    tokens = colours @ _MIX
    embedding = tokens.mean(axis=(1, 2))
    return {
        "embedding": embedding,
        "patch_tokens": tokens,
        "layers": np.stack([embedding, embedding / 2], axis=1),
        "layer_tokens": np.stack([tokens, tokens / 2], axis=1),
    }


def _graph(scale: int = 1) -> onnx.ModelProto:
    p = SIDE // GRID
    constants = {
        "cut": np.array([-1, GRID, p, GRID, p, 3], np.int64),
        "inside": np.array([2, 4], np.int64),
        "grid": np.array([1, 2], np.int64),
        "one": np.array([1], np.int64),
        "white": np.array(255, np.float32),
        "two": np.array(2, np.float32),
        "mix": scale * _MIX,
    }
    nodes = [
        helper.make_node("Cast", ["pixels"], ["real"], to=TensorProto.FLOAT),
        helper.make_node("Reshape", ["real", "cut"], ["patches"]),
        helper.make_node("ReduceMean", ["patches", "inside"], ["sums"], keepdims=0),
        helper.make_node("Div", ["sums", "white"], ["colours"]),
        helper.make_node("MatMul", ["colours", "mix"], ["patch_tokens"]),
        helper.make_node("ReduceMean", ["patch_tokens", "grid"], ["embedding"], keepdims=0),
        helper.make_node("Div", ["embedding", "two"], ["half"]),
        helper.make_node("Unsqueeze", ["embedding", "one"], ["first"]),
        helper.make_node("Unsqueeze", ["half", "one"], ["second"]),
        helper.make_node("Concat", ["first", "second"], ["layers"], axis=1),
        helper.make_node("Div", ["patch_tokens", "two"], ["half_tokens"]),
        helper.make_node("Unsqueeze", ["patch_tokens", "one"], ["first_tokens"]),
        helper.make_node("Unsqueeze", ["half_tokens", "one"], ["second_tokens"]),
        helper.make_node("Concat", ["first_tokens", "second_tokens"], ["layer_tokens"], axis=1),
    ]
    graph = helper.make_graph(
        nodes,
        "tiny",
        [helper.make_tensor_value_info("pixels", TensorProto.UINT8, ["batch", SIDE, SIDE, 3])],
        [
            helper.make_tensor_value_info("embedding", TensorProto.FLOAT, ["batch", DIM]),
            helper.make_tensor_value_info("patch_tokens", TensorProto.FLOAT, ["batch", GRID, GRID, DIM]),
            helper.make_tensor_value_info("layers", TensorProto.FLOAT, ["batch", 2, DIM]),
            helper.make_tensor_value_info("layer_tokens", TensorProto.FLOAT, ["batch", 2, GRID, GRID, DIM]),
        ],
        [numpy_helper.from_array(value, key) for key, value in constants.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=10)
