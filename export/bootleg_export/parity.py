"""How far one set of outputs is from another, and how far it may be. Relative measures only."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from bootleg_bundle.manifest import Parity

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    Arrays = Mapping[str, NDArray[np.float32]]


NOT_FINITE = 1e30
"""Stands for an infinite or undefined error: JSON has neither, and no gate lets it pass."""

TOKEN_OUTPUTS = ("patch_tokens", "layer_tokens")
"""Many vectors an image: judged by the first percentile of their cosines, the others by the smallest."""


@dataclass(frozen=True)
class Gate:
    """The bounds of one precision against float32 PyTorch.

    Attributes:
        relative_frobenius: largest, of each output.
        cosine_min: smallest, of a vector that stands for a whole image.
        cosine_p1: smallest first percentile, of tokens.
        batch_invariance: largest relative Frobenius difference of an image alone and in a batch.
    """

    relative_frobenius: float
    cosine_min: float
    cosine_p1: float
    batch_invariance: float

    def fault(self, parity: Parity) -> str | None:
        """The first bound that a measurement breaks, in words; None when it passes."""
        if not parity.relative_frobenius <= self.relative_frobenius:
            return f"relative Frobenius {parity.relative_frobenius:.1e} (<= {self.relative_frobenius:.0e})"
        if parity.output in TOKEN_OUTPUTS and not parity.cosine_p1 >= self.cosine_p1:
            return f"cosine p1 {parity.cosine_p1:.7f} (>= {self.cosine_p1})"
        if parity.output not in TOKEN_OUTPUTS and not parity.cosine_min >= self.cosine_min:
            return f"smallest cosine {parity.cosine_min:.7f} (>= {self.cosine_min})"
        return None

    def passes(self, parity: Parity) -> bool:
        """Whether a measurement is within the bounds."""
        return self.fault(parity) is None


# Static int8 is bit-equal in any batch on x86. Where its float32 parts round otherwise, a few activations fall on the
# next of their 256 steps: 1e-4 allows that. With the scale of a batch, as dynamic int8 takes it, an answer moved by
# 3e-4 in the mildest case met (an untrained encoder, images all alike in range), by 2e-2 in the worst.
GATES = {
    "fp32": Gate(relative_frobenius=1e-5, cosine_min=0.999999, cosine_p1=0.99999, batch_invariance=1e-5),
    "fp16": Gate(relative_frobenius=5e-3, cosine_min=0.9995, cosine_p1=0.995, batch_invariance=1e-3),
    "bf16": Gate(relative_frobenius=2e-2, cosine_min=0.999, cosine_p1=0.995, batch_invariance=1e-2),
    "int8": Gate(relative_frobenius=6e-2, cosine_min=0.995, cosine_p1=0.98, batch_invariance=1e-4),
}


def measure(precision: str, reference: Arrays, actual: Arrays) -> tuple[Parity, ...]:
    """Compare every output of two runs over the same images.

    Args:
        precision: of ``actual``, for the record.
        reference: float32 outputs by name, each ``[images, ..., D]``.
        actual: the outputs to judge, same names and shapes.
    """
    return tuple(_measure_one(precision, name, reference[name], actual[name]) for name in reference)


def _measure_one(precision: str, name: str, reference: NDArray[np.float32], actual: NDArray[np.float32]) -> Parity:
    assert reference.shape == actual.shape, f"{name}: {actual.shape} instead of {reference.shape}"
    a, b = reference.astype(np.float64), actual.astype(np.float64)
    difference = a - b
    vectors_a, vectors_b = a.reshape(-1, a.shape[-1]), b.reshape(-1, b.shape[-1])
    norms = np.linalg.norm(vectors_a, axis=1) * np.linalg.norm(vectors_b, axis=1)
    cosine = (vectors_a * vectors_b).sum(axis=1) / np.maximum(norms, 1e-30)
    return Parity(
        precision=precision,
        output=name,
        images=len(a),
        relative_frobenius=_finite(np.linalg.norm(difference) / np.linalg.norm(a), NOT_FINITE, ".3g"),
        cosine_min=_finite(cosine.min(), -1.0, ".9f"),
        cosine_p1=_finite(np.quantile(cosine, 0.01), -1.0, ".9f"),
        max_abs=_finite(np.abs(difference).max(), NOT_FINITE, ".3g"),
    )


def _finite(value: np.floating, otherwise: float, digits: str) -> float:
    return float(format(value, digits)) if np.isfinite(value) else otherwise


def worst_difference(reference: Arrays, actual: Arrays) -> float:
    """The largest relative Frobenius difference over the outputs of two runs."""
    return max(row.relative_frobenius for row in measure("", reference, actual))
