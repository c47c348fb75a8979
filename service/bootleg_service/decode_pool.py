"""Decoding and preprocessing in threads: Pillow releases the interpreter lock, so they run in parallel.

The pool sits behind one method; processes could take the place of threads without a caller noticing.
"""

from __future__ import annotations

import asyncio
import math
import time
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

from bootleg_bundle.images import decode
from bootleg_bundle.preprocess import apply
from bootleg_service import stages
from bootleg_service.errors import OverloadedError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from bootleg_bundle import PreprocessSpec
    from bootleg_bundle.images import ImageLimits
    from bootleg_service.metrics import Metrics


class DecodePool:
    """Turns encoded images into an encoder's input."""

    def __init__(
        self,
        limits: ImageLimits,
        metrics: Metrics,
        *,
        threads: int,
        max_waiting: int,
        max_seconds: float = math.inf,
    ) -> None:
        self._limits = limits
        self._rejected = metrics.rejected.labels("decode")
        self._wait_seconds = metrics.stage["wait"]
        self._decode_seconds = metrics.stage["decode"]
        self._preprocess_seconds = metrics.stage["preprocess"]
        metrics.decoding.set_function(lambda: self.arriving)
        self._max_waiting = max_waiting
        self._max_seconds = max_seconds
        self._threads = threads
        self._pool = ThreadPoolExecutor(threads, "bootleg-decode")
        self._seconds_per_image = 0.003
        self.arriving = 0
        """Images in or before decode."""

    async def decode(self, data: bytes, spec: PreprocessSpec) -> NDArray[np.uint8]:
        """Decode one image to ``[H, W, 3]``, as ``spec`` says: the models of a process share the pool.

        Raises:
            ImageError: it is no image we accept.
            OverloadedError: too many images wait for a thread.
        """
        wait = self.arriving * self._seconds_per_image / self._threads
        if self.arriving >= self._max_waiting or wait > self._max_seconds:
            self._rejected.inc()
            raise OverloadedError(
                f"{self.arriving} images wait to be decoded, about {wait:.1f} s; "
                f"the limits are {self._max_waiting:,} images and {self._max_seconds:g} s",
                retry_after=wait,
            )
        self._change(+1)
        came = time.perf_counter()
        try:
            pixels, begun, decoded, ended = await asyncio.get_running_loop().run_in_executor(
                self._pool, self._decode, data, spec
            )
            ago = time.perf_counter() - ended
            stages.took("wait", begun - came, ago=ago + ended - begun)
            stages.took("decode", decoded - begun, ago=ago + ended - decoded)
            stages.took("preprocess", ended - decoded, ago=ago)
            self._wait_seconds.observe(begun - came)
            return pixels
        finally:
            self._change(-1)

    def close(self) -> None:
        """Stop the threads; whoever waited for them has been answered."""
        self._pool.shutdown(wait=False, cancel_futures=True)

    def _decode(self, data: bytes, spec: PreprocessSpec) -> tuple[NDArray[np.uint8], float, float, float]:
        begun = time.perf_counter()
        try:
            image = decode(data, self._limits)
            decoded = time.perf_counter()
            self._decode_seconds.observe(decoded - begun)
            pixels = apply(spec, image)
            ended = time.perf_counter()
            self._preprocess_seconds.observe(ended - decoded)
            return pixels, begun, decoded, ended
        finally:
            elapsed = time.perf_counter() - begun
            self._seconds_per_image += 0.2 * (elapsed - self._seconds_per_image)

    def _change(self, by: int) -> None:
        self.arriving += by
