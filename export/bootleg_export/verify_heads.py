"""Checks of a bundle's heads behind its encoder: golden logits, and that a mask does not depend on its batch.

Verify calls it with its own way to run an encoder, so that every precision it can run is checked from pixels on.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from bootleg_bundle.manifest import GRAPH_INPUT, golden_key
from bootleg_export.check import Check
from bootleg_export.head_graph import measure_logits, run_head
from bootleg_export.parity import GATES
from bootleg_export.samples import natural_noise

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    import numpy as np
    from numpy.typing import NDArray

    from bootleg_bundle.bundle import Bundle

    RunEncoder = Callable[[NDArray[np.uint8], Sequence[int]], Mapping[str, NDArray[np.float32]]]

INVARIANCE_IMAGES = 41  # 32 and a ragged 9
BATCHES = (8, 32)


def golden_logits(bundle: Bundle, precision: str, encoder: RunEncoder) -> Iterator[Check]:
    """Check every head's answer to the golden images.

    Args:
        bundle: opened.
        precision: of the encoder graph; its gate is the heads' gate.
        encoder: runs that graph on ``pixels`` ``[n, H, W, 3]`` in batches of the given sizes in turn.

    Raises:
        BundleFileError: a graph cannot be run.
    """
    if not bundle.manifest.heads:
        return
    golden, gate = bundle.golden(), GATES[precision]
    pixels = golden[GRAPH_INPUT]
    outputs = encoder(pixels, (len(pixels),))
    for name, head in bundle.manifest.heads.items():
        key = golden_key(name)
        logits = run_head(bundle.head(name), head.input, outputs[head.input], (len(pixels),))
        row = measure_logits(precision, key, golden[key], logits)
        yield Check(
            f"{precision} golden {key}",
            gate.passes(row),
            f"relative Frobenius {row.relative_frobenius:.1e} (<= {gate.relative_frobenius:.0e}), "
            f"cosine {row.cosine_min:.7f} (>= {gate.cosine_min})",
        )


def logits_of_batches(bundle: Bundle, precision: str, encoder: RunEncoder) -> Iterator[Check]:
    """Check that every head's answer to an image is the same alone and among others.

    Args:
        bundle: opened.
        precision: of the encoder graph.
        encoder: as for :func:`golden_logits`.

    Raises:
        BundleFileError: a graph cannot be run.
    """
    if not bundle.manifest.heads:
        return
    spec, bound = bundle.manifest.preprocess, GATES[precision].batch_invariance
    pixels = natural_noise(INVARIANCE_IMAGES, spec.height, spec.width, seed=2)
    outputs = {batch: encoder(pixels, (batch,)) for batch in (1, *BATCHES)}
    for name, head in bundle.manifest.heads.items():
        key = golden_key(name)
        logits = {
            batch: run_head(bundle.head(name), head.input, tokens[head.input], (batch,))
            for batch, tokens in outputs.items()
        }
        rows = (measure_logits(precision, key, logits[1], logits[batch]) for batch in BATCHES)
        worst = max(row.relative_frobenius for row in rows)
        detail = f"1 against {' and '.join(map(str, BATCHES))}: {worst:.1e} (<= {bound:.0e})"
        yield Check(f"{precision} batch invariance {key}", worst <= bound, detail)
