"""Where to compute."""

from __future__ import annotations

import torch

from bootleg_bundle.errors import ConfigError


def choose_device(name: str) -> torch.device:
    """``auto`` takes CUDA where there is one; a device asked for by name must exist.

    Raises:
        ConfigError: an unknown device, or CUDA where there is none.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if name not in {"cpu", "cuda"}:
        raise ConfigError(f"device = {name!r}: use auto, cpu or cuda")
    if name == "cuda" and not torch.cuda.is_available():
        raise ConfigError("device = 'cuda': torch finds no CUDA device here; use auto or cpu")
    return torch.device(name)
