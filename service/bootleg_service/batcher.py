"""Merging images of different requests into batches for the one engine thread.

The rule: send what is ready the moment the device is free. While the device is busy, images gather;
as soon as a full batch waits, it is stacked, so that exactly one batch is prepared ahead. With the
device free, the batcher waits only for images that are still being decoded, and briefly. A batch
that fails is halved and run again until the guilty image is alone: one image's fault is nobody
else's.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections import deque
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from bootleg_service.errors import EngineError, OverloadedError, UnavailableError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from numpy.typing import NDArray

    from bootleg_service.metrics import Metrics
    from bootleg_service.settings import BatchSettings

log = logging.getLogger("bootleg.batcher")


@dataclass(eq=False)
class _Item:
    pixels: NDArray[np.uint8]
    output: str
    answer: asyncio.Future[NDArray[np.float32]]
    queued: float = field(default_factory=time.monotonic)


@dataclass
class _Prepared:
    items: list[_Item]
    pixels: NDArray[np.uint8]


class Batcher:
    """Owns the queue of decoded images and the engine's thread.

    Args:
        run: encodes ``[n, H, W, 3]`` and returns the named outputs; called from one thread only.
        settings: bounds and waits.
        metrics: where batches are counted.
        arriving: how many images are in or before decode, and so about to be submitted.
        row_shapes: what one image's row of each output must look like.
    """

    def __init__(
        self,
        run: Any,
        settings: BatchSettings,
        metrics: Metrics,
        arriving: Callable[[], int],
        *,
        row_shapes: Mapping[str, tuple[int, ...]] | None = None,
    ) -> None:
        self._run = run
        self._row_shapes = row_shapes or {}
        self._settings = settings
        self._metrics = metrics
        self._arriving = arriving
        self._queue: deque[_Item] = deque()
        self._queued_bytes = 0
        self._changed = asyncio.Event()
        self._thread = ThreadPoolExecutor(1, "bootleg-engine")
        self._task: asyncio.Task[None] | None = None
        self._closing = False
        self._seconds_per_image = 0.01
        self.busy_since: float | None = None

    def start(self) -> None:
        """Begin serving; call from the event loop."""
        self._task = asyncio.create_task(self._serve(), name="batcher")

    async def close(self) -> None:
        """Answer everything that is queued, refuse the rest, stop the thread."""
        self._closing = True
        self._changed.set()
        if self._task is not None:
            await self._task
        self._thread.shutdown(wait=True)

    def wake(self) -> None:
        """Look again whether a batch should go: nothing is about to arrive any more."""
        self._changed.set()

    @property
    def alive(self) -> bool:
        """Whether the serving task runs."""
        return self._task is not None and not self._task.done()

    async def submit(self, pixels: NDArray[np.uint8], output: str) -> NDArray[np.float32]:
        """Encode one image ``[H, W, 3]`` and return its row of the named output.

        Raises:
            OverloadedError: the queue is full.
            UnavailableError: the service is shutting down.
            EngineError: the model failed on this image alone.
        """
        if self._closing:
            raise UnavailableError("the service is shutting down", retry_after=1)
        s = self._settings
        if len(self._queue) >= s.max_queue_items or self._queued_bytes + pixels.nbytes > s.max_queue_bytes:
            wait = len(self._queue) * self._seconds_per_image
            raise OverloadedError(
                f"the queue is full: {len(self._queue)} images; the limits are {s.max_queue_items:,} images "
                f"and {s.max_queue_bytes:,} bytes",
                retry_after=wait,
            )
        item = _Item(pixels, output, asyncio.get_running_loop().create_future())
        self._queue.append(item)
        self._queued_bytes += pixels.nbytes
        self._metrics.queue_items.set(len(self._queue))
        self._changed.set()
        return await item.answer

    async def _serve(self) -> None:
        prepared: _Prepared | None = None
        while True:
            if prepared is None:
                await self._wait_until_worth_running()
                prepared = self._prepare()
            if prepared is None:
                if self._closing and not self._queue:
                    return
                continue
            running = asyncio.create_task(self._execute(prepared.items, prepared.pixels))
            prepared = None
            while not running.done():
                if prepared is None and len(self._queue) >= self._settings.max_batch:
                    prepared = self._prepare()
                await self._wait_for_change(also=running)
            await running
            if prepared is not None and all(item.answer.done() for item in prepared.items):
                prepared = None  # everybody who waited for it has left

    async def _wait_until_worth_running(self) -> None:
        """Return when a batch should go: at once if it is full or nothing more is about to arrive."""
        while not self._queue and not self._closing:
            await self._wait_for_change()
        deadline = time.monotonic() + self._settings.max_wait_seconds
        while 0 < len(self._queue) < self._settings.max_batch and self._arriving() and not self._closing:
            left = deadline - time.monotonic()
            if left <= 0:
                return
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(left):
                    await self._wait_for_change()

    async def _wait_for_change(self, also: asyncio.Task[None] | None = None) -> None:
        self._changed.clear()
        if also is None:
            await self._changed.wait()
            return
        changed = asyncio.ensure_future(self._changed.wait())
        await asyncio.wait({changed, also}, return_when=asyncio.FIRST_COMPLETED)
        changed.cancel()

    def _prepare(self) -> _Prepared | None:
        """Take the oldest images that somebody still waits for, and stack them."""
        items: list[_Item] = []
        while self._queue and len(items) < self._settings.max_batch:
            item = self._queue.popleft()
            self._queued_bytes -= item.pixels.nbytes
            if not item.answer.done():  # its request was cancelled or ran out of time
                items.append(item)
        self._metrics.queue_items.set(len(self._queue))
        return _Prepared(items, np.stack([item.pixels for item in items])) if items else None

    async def _execute(self, items: list[_Item], pixels: NDArray[np.uint8]) -> None:
        if all(item.answer.done() for item in items):
            return
        now = time.monotonic()
        for item in items:
            self._metrics.stage_seconds.labels("queue").observe(now - item.queued)
        outputs = {item.output for item in items}
        self.busy_since = now
        try:
            results = await asyncio.get_running_loop().run_in_executor(self._thread, self._run, pixels, outputs)
            self._check(results, outputs, len(items))
        except Exception:  # whatever the runtime raises means the same: this batch has no answer
            self._metrics.batch_failures.inc()
            log.exception("a batch of %d failed", len(items))
            await self._split(items, pixels)
            return
        finally:
            self.busy_since = None
        elapsed = time.monotonic() - now
        self._seconds_per_image += 0.1 * (elapsed / len(items) - self._seconds_per_image)
        self._metrics.stage_seconds.labels("infer").observe(elapsed)
        self._metrics.batch_size.observe(len(items))
        for row, item in enumerate(items):
            _answer(item, results[item.output][row])

    def _check(self, results: dict[str, NDArray[np.float32]], outputs: set[str], count: int) -> None:
        for name in outputs:
            got = results[name]
            expected = (count, *self._row_shapes.get(name, got.shape[1:]))
            if got.shape != expected or got.dtype.kind != "f":
                raise ValueError(f"{name}: {got.dtype} {got.shape} instead of floats {expected}")

    async def _split(self, items: list[_Item], pixels: NDArray[np.uint8]) -> None:
        if len(items) == 1:
            if not items[0].answer.done():
                items[0].answer.set_exception(EngineError("the model failed on this image"))
            return
        middle = len(items) // 2
        await self._execute(items[:middle], pixels[:middle])
        await self._execute(items[middle:], pixels[middle:])


def _answer(item: _Item, row: NDArray[np.float32]) -> None:
    if item.answer.done():
        return
    if np.isfinite(row).all():
        item.answer.set_result(row.copy())  # a view would keep the whole batch alive in the cache
    else:
        item.answer.set_exception(EngineError("the model's answer for this image is not finite"))
