"""Changing a bundle as somebody would who knows about the hashes."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import numpy as np

from bootleg_bundle.bundle import file_sha256
from bootleg_bundle.manifest import GOLDEN_NAME, MANIFEST_NAME

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from numpy.typing import NDArray


def rehash(bundle: Path, name: str) -> None:
    """Make the manifest agree with a changed file, so that no hash gives the change away."""
    manifest = json.loads((bundle / MANIFEST_NAME).read_text())
    file = bundle / name
    manifest["files"][name] = {"sha256": file_sha256(file), "bytes": file.stat().st_size}
    (bundle / MANIFEST_NAME).write_text(json.dumps(manifest))


def change_golden(bundle: Path, output: str, change: Callable[[NDArray[np.float32]], NDArray[np.float32]]) -> None:
    """Change one expected output of the golden file."""
    with np.load(bundle / GOLDEN_NAME, allow_pickle=False) as golden:
        arrays = dict(golden)
    arrays[output] = change(arrays[output])
    np.savez(bundle / GOLDEN_NAME, **arrays)
    rehash(bundle, GOLDEN_NAME)
