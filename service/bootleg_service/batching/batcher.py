"""The queue of decoded images and the engine's thread.

The rule: send what is ready the moment the device is free. While the device is busy, images gather; as soon as a full
batch waits, it is stacked, so that exactly one batch is prepared ahead. With the device free, the batcher waits only
for images that are still being decoded, and briefly. A batch that fails is halved and run again until the guilty image
is alone: one image's fault is nobody else's.
"""

from __future__ import annotations

import asyncio
import logging
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from bootleg_service import stages
from bootleg_service.batching.ceiling import Ceiling
from bootleg_service.batching.faults import Fault, classify
from bootleg_service.batching.latency import LatencyModel
from bootleg_service.batching.queue import FairQueue, Item
from bootleg_service.batching.saturation import Saturation
from bootleg_service.batching.thread import EngineThread
from bootleg_service.batching.ticket import ANYBODY
from bootleg_service.errors import DeadlineError, EngineError, OverloadedError, UnavailableError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from numpy.typing import NDArray

    from bootleg_service.batching.ticket import Claim
    from bootleg_service.metrics import Metrics
    from bootleg_service.settings import BatchSettings

log = logging.getLogger("bootleg.batcher")


@dataclass
class _Prepared:
    items: list[Item]
    pixels: NDArray[np.uint8]


class Batcher:
    """Takes images, answers with rows.

    Args:
        run: encodes ``[n, H, W, 3]`` and returns the named outputs; called from one thread only.
        settings: bounds and waits.
        metrics: where batches are counted.
        arriving: how many images are in or before decode, and so about to be submitted.
        row_shapes: what one image's row of each output must look like.
        sizes: the only batch sizes that the device runs; empty: any.
        thread: where ``run`` is called.
        model: its name in metrics.
        on_fatal: called with an error after which the device answers nothing but garbage.

    Attributes:
        saturation: for how long images have been refused for the load.
    """

    def __init__(  # noqa: PLR0913  # all that one model's batches need
        self,
        run: Any,
        settings: BatchSettings,
        metrics: Metrics,
        arriving: Callable[[], int],
        *,
        row_shapes: Mapping[str, tuple[int, ...]] | None = None,
        sizes: Sequence[int] = (),
        thread: EngineThread | None = None,
        model: str = "",
        on_fatal: Callable[[BaseException], None] | None = None,
    ) -> None:
        self._run = run
        self._row_shapes = row_shapes or {}
        self._settings = settings
        self._metrics = metrics
        self._arriving = arriving
        self._on_fatal = on_fatal
        self._queue: FairQueue[Item] = FairQueue(
            bulk_share=settings.bulk_share, bulk_patience=settings.bulk_patience_seconds
        )
        self._latency = LatencyModel()
        self._ceiling = Ceiling(settings.max_batch, tuple(sizes))
        self._changed = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._closing = False
        self._free_at = 0.0
        self._prepared: _Prepared | None = None
        self._done: list[tuple[list[Item], dict[str, NDArray[np.float32]]]] = []
        self._failed_in_a_row = 0
        self._moved = 0.0
        self._clock = time.monotonic
        self._executing = False
        self.thread = thread or EngineThread()
        self.saturation = Saturation()
        self._queue_seconds, self._infer_seconds = metrics.stage["queue"], metrics.stage["infer"]
        self._of_model = metrics.of_model(model)
        self._publish()

    def _publish(self) -> None:
        """Let Prometheus read what stands here when it asks."""
        m, latency = self._of_model, self._latency
        m.queue_items.set_function(lambda: len(self._queue))
        m.queue_bytes.set_function(lambda: self._queue.bytes)
        m.latency_per_image.set_function(lambda: latency.per_image)
        m.latency_fixed.set_function(lambda: latency.fixed or 0.0)
        m.read_busy(self.thread.busy_seconds)

    def start(self) -> None:
        """Begin serving; call from the event loop."""
        self._task = asyncio.create_task(self._serve(), name="batcher")

    async def close(self) -> None:
        """Answer everything that is queued, refuse the rest, stop the thread."""
        self._closing = True
        self._changed.set()
        if self._task is not None:
            await self._task
        self.thread.close()

    def wake(self) -> None:
        """Look again whether a batch should go: nothing is about to arrive any more."""
        self._changed.set()

    @property
    def alive(self) -> bool:
        """Whether the serving task runs."""
        return self._task is not None and not self._task.done()

    @property
    def healthy(self) -> bool:
        """Whether the model has answered lately: False after several images in a row on which it failed."""
        return self._failed_in_a_row < self._settings.max_failures

    @property
    def stalled(self) -> bool:
        """Whether the model makes no progress: a call does not end, or images wait and none is made."""
        busy = self.thread.busy_since
        if busy is not None:
            return time.monotonic() - busy > self._settings.stall_seconds
        return len(self._queue) > 0 and self._clock() - self._moved > self._settings.stall_seconds

    def check(self) -> None:
        """Refuse images at once that the model cannot answer now, whatever the load.

        Raises:
            UnavailableError: it is shutting down, fails on everything, or is stuck.
        """
        if self._closing:
            raise UnavailableError("the service is shutting down", retry_after=1)
        if not self.healthy:
            raise UnavailableError("the model fails on every image; it is being checked", retry_after=5)
        if self.stalled:
            raise UnavailableError("the model makes no progress", retry_after=10)

    def mend(self) -> None:
        """Take images again: the model was seen to answer rightly."""
        self._failed_in_a_row = 0

    async def submit(self, pixels: NDArray[np.uint8], output: str, ticket: Claim = ANYBODY) -> NDArray[np.float32]:
        """Encode one image ``[H, W, 3]`` and return its row of the named output.

        Raises:
            OverloadedError: the queue is full, or the answer would come after the ticket's deadline.
            DeadlineError: the deadline passed while it was queued.
            UnavailableError: the service is shutting down, or the model fails on everything.
            EngineError: the model failed on this image alone.
        """
        return await self.enqueue(pixels, output, ticket)

    def enqueue(
        self, pixels: NDArray[np.uint8], output: str, ticket: Claim = ANYBODY
    ) -> asyncio.Future[NDArray[np.float32]]:
        """As :meth:`submit`, for callers with several images: no task waits for each. Cancel it when nobody waits."""
        self._admit(pixels, ticket)
        loop = asyncio.get_running_loop()
        if not len(self._queue):
            self._clock = loop.time
            self._moved = loop.time()
        item = Item(pixels, output, loop.create_future(), loop.time(), ticket)
        self._queue.push(item)
        self._changed.set()
        return item.answer

    def expected_wait(self, ticket: Claim = ANYBODY) -> float:
        """Seconds until an image that came now would be answered, by what batches have taken lately."""
        wait = max(0.0, self._free_at - asyncio.get_running_loop().time())
        if self._prepared is not None:
            wait += self._latency.batch(self._ceiling.size(len(self._prepared.items)))
        return wait + self._latency.drain(self._queue.ahead_of(ticket) + 1, self._ceiling.now)

    def _admit(self, pixels: NDArray[np.uint8], ticket: Claim) -> None:
        self.check()
        wait, deadline = self.expected_wait(ticket), ticket.deadline
        # An idle device is always tried: its latency may have been a passing one, and only a batch can tell.
        idle = not self._executing and self._prepared is None and not len(self._queue)
        if deadline is not None and not idle and wait > (left := deadline - asyncio.get_running_loop().time()):
            self._metrics.rejected.labels("deadline").inc()
            self.saturation.refused()
            raise OverloadedError(
                f"the answer would take about {wait:.2f} s, and {max(left, 0):.2f} s are left for it",
                retry_after=wait - left,
            )
        s, queue = self._settings, self._queue
        while len(queue) >= s.max_queue_items or queue.bytes + pixels.nbytes > s.max_queue_bytes:
            displaced = queue.make_room(ticket)
            self._metrics.rejected.labels("queue" if displaced is None else "displaced").inc()
            self.saturation.refused()
            if displaced is None:
                raise OverloadedError(
                    f"the queue is full: {len(queue)} images; the limits are {s.max_queue_items:,} images "
                    f"and {s.max_queue_bytes:,} bytes",
                    retry_after=wait,
                )
            _refuse(displaced, OverloadedError("the queue is full, and others have fewer images in it", retry_after=1))

    async def _serve(self) -> None:
        while True:
            if self._prepared is None:
                await self._wait_until_worth_running()
                self._prepared = self._prepare()
            if self._prepared is None:
                if self._closing and not len(self._queue):
                    return
                continue
            running = asyncio.create_task(self._execute(self._prepared.items, self._prepared.pixels))
            running.add_done_callback(lambda _: self._changed.set())
            self._executing, self._prepared = True, None
            self._answer_done()  # now that the next batch is on its way: writing answers keeps the loop busy for long
            while not running.done():
                if self._prepared is None and len(self._queue) >= self._ceiling.now:
                    self._prepared = self._prepare()
                await self._wait_for_change()
            await running
            self._executing = False
            if self._prepared is not None and all(item.answer.done() for item in self._prepared.items):
                self._prepared = None  # everybody who waited for it has left
            if self._prepared is None:
                self._answer_done()

    async def _wait_until_worth_running(self) -> None:
        """Return when a batch should go: at once if it is full or nothing more is about to arrive.

        To wait costs each image that waits; to merge one more saves a batch's fixed cost: no longer than that.
        """
        while not len(self._queue) and not self._closing:
            await self._wait_for_change()
        fixed = self._latency.fixed
        longest = self._settings.max_wait_seconds
        loop = asyncio.get_running_loop()
        begun = loop.time()
        until = begun + (longest if fixed is None else min(longest, fixed))
        waker = loop.call_at(until, self._changed.set)
        while 0 < len(self._queue) < self._ceiling.now and self._arriving() and not self._closing:
            if loop.time() >= until:
                break
            await self._wait_for_change()
        waker.cancel()
        self._of_model.batch_wait.observe(loop.time() - begun)

    async def _wait_for_change(self) -> None:
        self._changed.clear()
        await self._changed.wait()

    def _prepare(self) -> _Prepared | None:
        """Take the images whose turn it is and whose answer somebody still waits for, and stack them."""
        now = asyncio.get_running_loop().time()
        items = self._queue.take(self._ceiling.take(len(self._queue), self._latency), now, self._drop)
        return _Prepared(items, np.stack([item.pixels for item in items])) if items else None

    def _drop(self, item: Item) -> None:
        self._metrics.dropped.labels("left" if item.answer.done() else "deadline").inc()
        if not item.answer.done():
            item.answer.set_exception(DeadlineError("the deadline passed while the image was queued", retry_after=1))

    async def _execute(self, items: list[Item], pixels: NDArray[np.uint8]) -> None:
        if all(item.answer.done() for item in items):
            return
        loop = asyncio.get_running_loop()
        begun = loop.time()
        self._moved = begun
        size = self._ceiling.size(len(items))
        outputs = {item.output for item in items}
        self._free_at = begun + self._latency.batch(size)
        try:
            results = await self.thread.run(self._run, _filled(pixels, size), outputs)
            self._check(results, outputs, size)
        except Exception as error:  # noqa: BLE001  # whatever the runtime raises means the same: this batch has no answer
            await self._failed(error, items, pixels)
            return
        self._moved = loop.time()
        elapsed = self._moved - begun
        self._latency.observe(size, elapsed)
        self._ceiling.passed(len(items))
        self._failed_in_a_row = 0
        self._done.append((items, results))
        self._count(items, size, begun, elapsed)

    def _answer_done(self) -> None:
        """Answer the images of the batches that have run."""
        done, self._done = self._done, []
        for items, results in done:
            finite = {name: _finite(rows) for name, rows in results.items()}
            for row, item in enumerate(items):
                if not finite[item.output][row]:
                    _refuse(item, EngineError("the model's answer for this image is not finite"))
                elif not item.answer.done():
                    item.answer.set_result(results[item.output][row].copy())  # a view would keep the batch in the cache

    def _count(self, items: list[Item], size: int, begun: float, elapsed: float) -> None:
        for item in items:
            self._queue_seconds.observe(begun - item.queued)
            item.context.run(_took, begun - item.queued, elapsed)
        self._infer_seconds.observe(elapsed)
        self._of_model.batch_size.observe(len(items))
        self._of_model.padding.inc(size - len(items))
        stages.batched((item.context for item in items), elapsed, {"images": len(items), "size": size})

    def _check(self, results: dict[str, NDArray[np.float32]], outputs: set[str], count: int) -> None:
        for name in outputs:
            got = results[name]
            expected = (count, *self._row_shapes.get(name, got.shape[1:]))
            if got.shape != expected or got.dtype.kind != "f":
                raise ValueError(f"{name}: {got.dtype} {got.shape} instead of floats {expected}")

    async def _failed(self, error: Exception, items: list[Item], pixels: NDArray[np.uint8]) -> None:
        fault = classify(error)
        self._of_model.failed(fault.value)
        log.error("a batch of %d failed", len(items), exc_info=error)
        if fault is Fault.FATAL and self._on_fatal is not None:
            for item in items:
                _refuse(item, UnavailableError("the device failed; the service starts again", retry_after=10))
            self._on_fatal(error)
            return
        if fault is Fault.OUT_OF_MEMORY:
            self._ceiling.lower(len(items))
        if len(items) == 1:
            self._failed_in_a_row += 1
            _refuse(items[0], EngineError("the model failed on this image"))
            return
        middle = len(items) // 2
        await self._execute(items[:middle], pixels[:middle])
        self._answer_done()
        await self._execute(items[middle:], pixels[middle:])


def _took(queued: float, elapsed: float) -> None:
    stages.took("queue", queued, ago=elapsed)
    stages.took("infer", elapsed)


def _filled(pixels: NDArray[np.uint8], size: int) -> NDArray[np.uint8]:
    """Black images up to the size that the device runs."""
    if len(pixels) == size:
        return pixels
    return np.concatenate([pixels, np.zeros((size - len(pixels), *pixels.shape[1:]), pixels.dtype)])


def _refuse(item: Item, error: Exception) -> None:
    if not item.answer.done():
        item.answer.set_exception(error)


def _finite(rows: NDArray[np.float32]) -> NDArray[np.bool_]:
    """Which of a batch's rows ``[n, ...]`` hold numbers only, ``[n]``."""
    return np.asarray(np.isfinite(rows).all(axis=tuple(range(1, rows.ndim))))
