"""Running a graph of any precision and measuring it: against a reference, and against itself in other batches.

Build calls it before a graph may enter a bundle, verify when the bundle has arrived somewhere.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from bootleg_export.parity import GATES, worst_difference
from bootleg_export.samples import natural_noise
from bootleg_export.session import run_graph

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from bootleg_bundle.bundle import Bundle

NOISE_IMAGES = 64
SLOW_IMAGES = 4
"""Of noise and of photographs, for a precision that only an evaluator runs."""

PARITY_BATCHES = (1, 7, 8)  # none is the batch that the graph was traced with
INVARIANCE_IMAGES = 41  # 8 x 5 and one, 32 and a ragged 9
NO_KERNELS = frozenset({"bf16"})
"""Precisions that ONNX Runtime cannot run on a processor."""


class GraphFile(NamedTuple):
    """One encoder graph on disk."""

    precision: str
    path: Path
    external: tuple[str, ...]

    def run(self, pixels: NDArray[np.uint8], batches: Sequence[int]) -> dict[str, NDArray[np.float32]]:
        """Outputs by name for uint8 ``[n, H, W, 3]``, in batches of the given sizes in turn.

        Raises:
            BundleFileError: the graph cannot be loaded or run.
        """
        if self.precision in NO_KERNELS:
            from bootleg_export.bfloat16 import run_bfloat16  # noqa: PLC0415  # onnx; verifying the rest needs none

            return run_bfloat16(self.path, pixels, external=self.external)
        return run_graph(self.path, pixels, batches, external=self.external)

    def batch_invariance(self, height: int, width: int) -> float | None:
        """The largest relative Frobenius difference of images alone and in batches of 8 and of 32.

        Returns:
            None for a precision that cannot be run in earnest.
        """
        if self.precision in NO_KERNELS:
            return None
        pixels = natural_noise(INVARIANCE_IMAGES, height, width, seed=2)
        alone = self.run(pixels, (1,))
        return max(worst_difference(alone, self.run(pixels, (batch,))) for batch in (8, 32))

    def invariance_fault(self, difference: float | None) -> str | None:
        """What the difference breaks, in words; None when it passes."""
        allowed = GATES[self.precision].batch_invariance
        if difference is None or difference <= allowed:
            return None
        return f"batch invariance {difference:.1e} (<= {allowed:.0e}): an answer changes with its batch"


def graph_file(bundle: Bundle, precision: str) -> GraphFile:
    """The graph of ``precision`` in a bundle."""
    return GraphFile(precision, bundle.graph(precision), bundle.manifest.graphs[precision].external_data)


def judged_images(precision: str, noise: int, real: int) -> NDArray[np.int64]:
    """Which of ``noise`` made-up images and then ``real`` ones judge a precision."""
    most = SLOW_IMAGES if precision in NO_KERNELS else max(noise, real)
    return np.concatenate([np.arange(min(noise, most)), noise + np.arange(min(real, most))])
