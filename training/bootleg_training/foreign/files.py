"""Tensors out of a file of unknown origin, and never anything else: no code that it names is run.

Called by :mod:`bootleg_training.foreign.convert`.
"""

from __future__ import annotations

import argparse
import zipfile
from typing import TYPE_CHECKING, Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from bootleg_bundle.errors import CheckpointError
from bootleg_training.foreign.layouts import CONTAINERS, listed

if TYPE_CHECKING:
    from pathlib import Path

INERT: list[Any] = [argparse.Namespace]
"""Types that torch does not expect in weights but that do nothing: trainings keep their options beside the weights."""


def read_tensors(file: Path) -> tuple[dict[str, Tensor], str | None]:
    """The encoder's state dict, under the names that the file gives, and the part of the file that it is.

    Args:
        file: ``.safetensors``; any other ending is read as torch's format, mapped into memory where the file allows.

    Raises:
        CheckpointError: the file cannot be read, would run code, or holds no state dict.
        OSError: it cannot be opened.
    """
    content: Any = _read_safetensors(file) if file.suffix.lower() == ".safetensors" else _read_torch(file)
    if not isinstance(content, dict):
        raise CheckpointError(f"{file} holds no state dict")
    container = next((key for key in CONTAINERS if isinstance(content.get(key), dict)), None)
    state = content if container is None else content[container]
    others = sorted(str(key) for key, value in state.items() if not isinstance(value, Tensor))
    if others or not state:
        found = f"; it has {listed(others)}" if others else ""
        raise CheckpointError(f"{file} holds no state dict, neither at its top nor as {', '.join(CONTAINERS)}{found}")
    return {str(key): value for key, value in state.items()}, container


def _read_safetensors(file: Path) -> dict[str, Tensor]:
    try:
        return load_file(file)
    except SafetensorError as error:
        raise CheckpointError(f"{file} is damaged, or no safetensors file") from error


def _read_torch(file: Path) -> Any:
    zipped = zipfile.is_zipfile(file)  # torch's format since 1.6, the one that can be mapped
    with torch.serialization.safe_globals(INERT):
        try:
            active = torch.serialization.get_unsafe_globals_in_checkpoint(file) if zipped else []
            if not active:
                return torch.load(file, map_location="cpu", weights_only=True, mmap=zipped)
        except OSError:
            raise
        except Exception as error:  # torch raises whatever a damaged file leads to
            raise CheckpointError(f"{file} is damaged, or holds more than torch's plain weights") from error
    raise CheckpointError(
        f"{file} names {listed(sorted(active))}, which loading would run; it is not loaded. "
        "Save its state dict alone where it comes from, best as .safetensors"
    )
