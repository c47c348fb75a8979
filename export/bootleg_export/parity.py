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


@dataclass(frozen=True)
class Gate:
    """The bounds of one precision against float32 PyTorch."""

    relative_frobenius: float
    cosine_min: float

    def passes(self, parity: Parity) -> bool:
        """Whether a measurement is within the bounds."""
        return parity.relative_frobenius <= self.relative_frobenius and parity.cosine_min >= self.cosine_min


NOT_FINITE = 1e30
"""Stands for an infinite or undefined error: JSON has neither, and no gate lets it pass."""

GATES = {
    "fp32": Gate(relative_frobenius=1e-5, cosine_min=0.999999),
    "fp16": Gate(relative_frobenius=5e-3, cosine_min=0.9995),
    "bf16": Gate(relative_frobenius=2e-2, cosine_min=0.999),
    "int8": Gate(relative_frobenius=6e-2, cosine_min=0.995),
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
