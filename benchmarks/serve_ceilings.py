"""What the serving benchmark takes for 100 %: the same work on the same cores without a service."""

from __future__ import annotations

import itertools
import time
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import numpy as np

from bootleg_bundle.images import decode
from bootleg_bundle.preprocess import apply
from bootleg_service.cli import EXAMPLE_IMAGE

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from bootleg_bundle import PreprocessSpec

BATCH = 8
DECODE_THREADS = 2
"""Both as the service's defaults."""

_numbers = itertools.count()


def photographs(count: int) -> list[bytes]:
    """Encoded photographs with different bytes, so that neither cache nor single flight helps."""
    data = EXAMPLE_IMAGE.read_bytes()
    return [data + next(_numbers).to_bytes(8, "little") for _ in range(count)]


def bare_script(engine: Any, spec: PreprocessSpec, images: Sequence[bytes]) -> float:
    """Images a second of decoding in threads and running in batches."""
    begun = time.perf_counter()
    with ThreadPoolExecutor(DECODE_THREADS) as pool:
        decoded = pool.map(lambda data: apply(spec, decode(data)), images)
        while batch := list(itertools.islice(decoded, BATCH)):
            engine.run(np.stack(batch), ["embedding"])
    return len(images) / (time.perf_counter() - begun)


def bare_runs(engine: Any, pixels: NDArray[np.uint8], seconds: float) -> float:
    """Images a second of running one batch ``[n, H, W, 3]`` again and again."""
    begun, images = time.perf_counter(), 0
    while (spent := time.perf_counter() - begun) < seconds:
        engine.run(pixels, ["embedding"])
        images += len(pixels)
    return images / spent
