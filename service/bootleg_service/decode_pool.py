"""Decoding and preprocessing beside the event loop: encoded bytes become the encoder's input.

In threads, as Pillow releases the interpreter lock, or in processes, where a decoder that crashes, hangs or wants too
much memory costs one image. Callers cannot tell which.
"""

from __future__ import annotations

import math
import time
from functools import partial
from typing import TYPE_CHECKING

from bootleg_bundle.images import decode
from bootleg_bundle.preprocess import apply
from bootleg_service import stages
from bootleg_service.batching.ticket import ANYBODY
from bootleg_service.bounded_pool import BoundedPool, Threads
from bootleg_service.decode_processes import Decoded, Processes
from bootleg_service.settings import BatchSettings

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from bootleg_bundle import PreprocessSpec
    from bootleg_bundle.images import ImageLimits
    from bootleg_service.batching.ticket import Claim
    from bootleg_service.bounded_pool import Workers
    from bootleg_service.decode_processes import Encoded
    from bootleg_service.metrics import Metrics
    from bootleg_service.settings import DecodeSettings


class DecodePool:
    """Turns encoded images into an encoder's input.

    Args:
        limits: of an image.
        metrics: where decoding is counted.
        settings: workers and bounds.
        max_seconds: longest expected wait for a worker.
        shares: between the lanes, as in the batcher.
    """

    def __init__(
        self,
        limits: ImageLimits,
        metrics: Metrics,
        settings: DecodeSettings,
        *,
        max_seconds: float = math.inf,
        shares: BatchSettings | None = None,
    ) -> None:
        self._wait_seconds = metrics.stage["wait"]
        self._decode_seconds = metrics.stage["decode"]
        self._preprocess_seconds = metrics.stage["preprocess"]
        metrics.decoding.set_function(lambda: self.arriving)
        workers: Workers[Encoded, Decoded]
        if settings.processes:
            workers = Processes(limits, settings, metrics)
        else:
            workers = Threads(settings.threads, "bootleg-decode", partial(_decode, limits))
        self._pool = BoundedPool(
            workers,
            "images wait to be decoded",
            max_waiting=settings.max_waiting,
            max_seconds=max_seconds,
            shares=shares or BatchSettings(),
            guess=0.003,
            rejected=metrics.rejected.labels("decode"),
        )
        self.arriving = 0
        """Images in or before decode."""

    async def decode(self, data: bytes, spec: PreprocessSpec, ticket: Claim = ANYBODY) -> NDArray[np.uint8]:
        """Decode one image to ``[H, W, 3]``, as ``spec`` says: the models of a process share the pool.

        Raises:
            ImageError: it is no image we accept.
            DecodeError: decoding it took too long or ended its process, with processes.
            OverloadedError: too many images wait, or it would be decoded after the ticket's deadline.
            DeadlineError: the deadline passed while it waited.
        """
        self.arriving += 1
        came = time.perf_counter()
        try:
            done, job = await self._pool.run((data, spec), ticket)
        finally:
            self.arriving -= 1
        assert job.begun is not None
        self._count(job.begun - came, done, time.perf_counter() - job.begun)
        return done.pixels

    async def start(self) -> None:
        """Start the workers."""
        await self._pool.start()

    async def close(self) -> None:
        """Stop the workers; whoever waited for them has been answered."""
        await self._pool.close()

    def _count(self, waited: float, done: Decoded, since_begun: float) -> None:
        stages.took("wait", waited, ago=since_begun)
        stages.took("decode", done.decode_seconds, ago=since_begun - done.decode_seconds)
        ended = done.decode_seconds + done.preprocess_seconds
        stages.took("preprocess", done.preprocess_seconds, ago=since_begun - ended)
        self._wait_seconds.observe(waited)
        self._decode_seconds.observe(done.decode_seconds)
        self._preprocess_seconds.observe(done.preprocess_seconds)


def _decode(limits: ImageLimits, encoded: Encoded) -> Decoded:
    data, spec = encoded
    begun = time.perf_counter()
    image = decode(data, limits)
    decoded = time.perf_counter()
    pixels = apply(spec, image)
    return Decoded(pixels, decoded - begun, time.perf_counter() - decoded)
