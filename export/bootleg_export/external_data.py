"""A graph and the file of its weights: one ONNX file, or two where the weights shall lie beside the graph.

Build writes them; verify reads them. A graph may only take weights from the files that its manifest lists and hashes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import onnx
from onnx.external_data_helper import ExternalDataInfo, load_external_data_for_model, uses_external_data

from bootleg_bundle.errors import BundleFileError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

SMALLEST_BYTES = 1024
"""Smaller tensors stay in the graph: shapes, axes and scales, which tools want to read without the weights."""


def save_model(model: onnx.ModelProto, path: Path, *, external: bool) -> tuple[str, ...]:
    """Write a model, byte for byte the same every time.

    Args:
        model: emptied of the weights that went to the other file.
        path: ``NAME.onnx``.
        external: write the weights to ``NAME.data`` beside it.

    Returns:
        The names of the files beside ``path``.
    """
    names: tuple[str, ...] = ()
    if external:
        names = (f"{path.stem}.data",)
        path.with_name(names[0]).unlink(missing_ok=True)  # onnx appends
        onnx.external_data_helper.convert_model_to_external_data(
            model, location=names[0], size_threshold=SMALLEST_BYTES, convert_attribute=False
        )
        model = onnx.external_data_helper.write_external_data_tensors(model, str(path.parent))
    path.write_bytes(model.SerializeToString(deterministic=True))
    onnx.checker.check_model(str(path))  # by its path: in memory, no model over 2 GiB can be checked
    return names


def load_model(path: Path, external: Sequence[str]) -> onnx.ModelProto:
    """Read a model with its weights.

    Args:
        path: the graph.
        external: names of the files beside it that it may read.

    Raises:
        BundleFileError: it is no ONNX file, or names another file.
    """
    try:
        model = onnx.load(path, load_external_data=False)
    except Exception as error:  # protobuf's error, which is not part of its interface
        raise BundleFileError(f"{path.name} is no ONNX file") from error
    for tensor in model.graph.initializer:
        if uses_external_data(tensor) and ExternalDataInfo(tensor).location not in external:
            raise BundleFileError(f"{path.name} takes weights from a file that the manifest does not list with it")
    load_external_data_for_model(model, str(path.parent))
    return model
