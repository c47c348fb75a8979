"""Checks that need only the bundle: hashes, golden outputs, and that an answer does not depend on its batch."""

from __future__ import annotations

from typing import TYPE_CHECKING

from bootleg_bundle.bundle import Bundle, open_bundle
from bootleg_bundle.manifest import GOLDEN_OUTPUTS, GRAPH_INPUT
from bootleg_export.check import Check
from bootleg_export.parity import GATES, measure
from bootleg_export.samples import natural_noise
from bootleg_export.session import run_graph

if TYPE_CHECKING:
    from pathlib import Path

INVARIANCE_IMAGES = 41  # 32 and a ragged 9


def verify_bundle(path: Path) -> list[Check]:
    """Verify a bundle on this machine.

    Raises:
        BundleError: it cannot be opened at all; the message names the file.
    """
    bundle = open_bundle(path)
    checks = [Check("hashes", passed=True, detail=f"{len(bundle.manifest.files)} files")]
    for precision in bundle.manifest.graphs:
        checks += [*_golden(bundle, precision), _batch_invariance(bundle, precision)]
    return checks


def _golden(bundle: Bundle, precision: str) -> list[Check]:
    golden = bundle.golden()
    pixels, expected = golden[GRAPH_INPUT], {name: golden[name] for name in GOLDEN_OUTPUTS}
    gate = GATES[precision]
    rows = measure(precision, expected, run_graph(bundle.graph(precision), pixels, (len(pixels),)))
    return [
        Check(
            f"{precision} golden {row.output}",
            gate.passes(row),
            f"relative Frobenius {row.relative_frobenius:.1e} (<= {gate.relative_frobenius:.0e}), "
            f"cosine {row.cosine_min:.7f} (>= {gate.cosine_min})",
        )
        for row in rows
    ]


def _batch_invariance(bundle: Bundle, precision: str) -> Check:
    spec = bundle.manifest.preprocess
    pixels = natural_noise(INVARIANCE_IMAGES, spec.height, spec.width, seed=2)
    alone = run_graph(bundle.graph(precision), pixels, (1,))
    together = [run_graph(bundle.graph(precision), pixels, (batch,)) for batch in (8, 32)]
    worst = max(row.relative_frobenius for outputs in together for row in measure(precision, alone, outputs))
    gate = GATES[precision].relative_frobenius
    return Check(f"{precision} batch invariance", worst <= gate, f"1 against 8 and 32: {worst:.1e} (<= {gate:.0e})")
