"""Checks that need only the bundle: hashes, golden outputs, parity with fp32, and answers that ignore their batch.

``bootleg verify`` calls it, on the machine that serves: it needs no PyTorch, and ONNX for bfloat16 alone.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from bootleg_bundle.bundle import Bundle, open_bundle
from bootleg_bundle.manifest import GOLDEN_OUTPUTS, GRAPH_INPUT
from bootleg_export.check import Check
from bootleg_export.judge import NO_KERNELS, NOISE_IMAGES, PARITY_BATCHES, GraphFile, graph_file, judged_images
from bootleg_export.parity import GATES, TOKEN_OUTPUTS, measure
from bootleg_export.samples import natural_noise
from bootleg_export.verify_heads import golden_logits, logits_of_batches

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from bootleg_bundle.manifest import Parity


def verify_bundle(path: Path) -> Iterator[Check]:
    """Verify a bundle on this machine, one check at a time.

    Raises:
        BundleError: it cannot be opened at all, or a graph cannot be run; the message names the file.
    """
    bundle = open_bundle(path)
    yield Check("hashes", passed=True, detail=f"{len(bundle.manifest.files)} files")
    for precision in sorted(bundle.manifest.graphs, key=list(GATES).index):
        file = graph_file(bundle, precision)
        yield from _golden(bundle, file)
        if precision != "fp32":
            yield from _parity(bundle, file)
        yield from golden_logits(bundle, precision, file.run)
        if precision not in NO_KERNELS:
            yield _batch_invariance(bundle, file)
            yield from logits_of_batches(bundle, precision, file.run)


def _golden(bundle: Bundle, file: GraphFile) -> Iterator[Check]:
    golden = bundle.golden()
    pixels, expected = golden[GRAPH_INPUT], {name: golden[name] for name in GOLDEN_OUTPUTS}
    for row in measure(file.precision, expected, file.run(pixels, (len(pixels),))):
        yield _check(f"{file.precision} golden {row.output}", row)


def _parity(bundle: Bundle, file: GraphFile) -> Iterator[Check]:
    spec = bundle.manifest.preprocess
    pixels = natural_noise(NOISE_IMAGES, spec.height, spec.width)[judged_images(file.precision, NOISE_IMAGES, 0)]
    reference = graph_file(bundle, "fp32").run(pixels, PARITY_BATCHES)
    for row in measure(file.precision, reference, file.run(pixels, PARITY_BATCHES)):
        yield _check(f"{file.precision} against fp32 {row.output}", row)


def _check(name: str, row: Parity) -> Check:
    gate = GATES[row.precision]
    tokens = row.output in TOKEN_OUTPUTS
    cosine = f"cosine p1 {row.cosine_p1:.7f}" if tokens else f"cosine {row.cosine_min:.7f}"
    return Check(
        name,
        gate.passes(row),
        f"relative Frobenius {row.relative_frobenius:.1e} (<= {gate.relative_frobenius:.0e}), "
        f"{cosine} (>= {gate.cosine_p1 if tokens else gate.cosine_min})",
    )


def _batch_invariance(bundle: Bundle, file: GraphFile) -> Check:
    spec = bundle.manifest.preprocess
    worst = file.batch_invariance(spec.height, spec.width)
    assert worst is not None
    detail = f"1 against 8 and 32: {worst:.1e} (<= {GATES[file.precision].batch_invariance:.0e})"
    return Check(f"{file.precision} batch invariance", file.invariance_fault(worst) is None, detail)
