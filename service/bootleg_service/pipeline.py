"""From encoded images to answers: cache, single flight, decode, batch. What every route calls.

The path of a request: route -> Pipeline.answer_each -> DecodePool.decode -> Batcher.submit -> Engine.run.
Two queues: the decode pool's and the batcher's.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Protocol

import numpy as np

from bootleg_bundle.errors import BootlegError
from bootleg_service.batching.ticket import Standing
from bootleg_service.cache_value import CacheKey, cache_key
from bootleg_service.errors import DeadlineError, EngineError, UnavailableError
from bootleg_service.telemetry.images import ImageOutcomes

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Coroutine, Sequence

    from numpy.typing import NDArray

    from bootleg_bundle import Bundle
    from bootleg_service.batching.batcher import Batcher
    from bootleg_service.batching.ticket import Claim, Ticket
    from bootleg_service.cache import Cache
    from bootleg_service.metrics import Metrics
    from bootleg_service.model_decode import ModelDecode

log = logging.getLogger("bootleg.pipeline")

_FLOAT32: Final = np.dtype(np.float32)

STORED_DTYPE: dict[str, np.dtype[np.floating]] = {
    "embedding": _FLOAT32,
    "patch_tokens": np.dtype(np.float16),
    "layers": _FLOAT32,
    "layer_tokens": np.dtype(np.float16),
}

MAX_KEPT_BYTES: Final = 2**20
"""A larger answer is not cached: it would drive out a thousand vectors, and what it is made of is cached."""


class Derived(Protocol):
    """An answer that is made of an output of the model, beside the event loop; a mask, for one."""

    @property
    def kind(self) -> str:
        """All that decides it beside the image: part of the cache's key."""

    @property
    def source(self) -> str:
        """The model's output it is made of."""

    async def make(self, data: bytes, source: NDArray[Any], ticket: Claim) -> NDArray[Any]:
        """Make one image's answer of the encoded image and its ``source``."""


@dataclass(frozen=True)
class Answer:
    """One image's result; ``digest`` is that of the cache's key which it was found under, None if it was computed."""

    value: NDArray[Any]
    digest: bytes | None = None

    @property
    def hit(self) -> bool:
        """Whether it came from the cache."""
        return self.digest is not None


class ImageFailure(Exception):  # noqa: N818  # carries an error of ours to the error handler
    """One image of a request failed.

    Attributes:
        error: what was wrong with it.
        param: its place in the request, such as ``images[3]``.
    """

    def __init__(self, error: BootlegError, param: str) -> None:
        super().__init__(error.message)
        self.error = error
        self.param = param


@dataclass(eq=False)
class _Flight:
    """One computation: its answer, its task, and the standing of those who wait for it."""

    answer: asyncio.Future[NDArray[Any]]
    standing: Standing
    task: asyncio.Task[None] | None = None


class Pipeline:
    """Answers images; equal images in flight at the same time are computed once."""

    def __init__(self, bundle: Bundle, cache: Cache, decode: ModelDecode, batcher: Batcher, metrics: Metrics) -> None:
        self._bundle = bundle
        self._preprocess_hash = bundle.manifest.preprocess.hash
        self._cache = cache
        self._decode = decode
        self._batcher = batcher
        self._outcomes = ImageOutcomes(metrics)
        self._flights: dict[bytes, _Flight] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self.draining = False

    async def answer_each(
        self, images: Sequence[bytes | BootlegError], output: str | Derived, ticket: Ticket
    ) -> list[Answer | BootlegError]:
        """Compute one output for several encoded images, each with its own outcome.

        Args:
            images: encoded files; in the place of one that could not be read, its error.
            output: an output of the model, a head's logits, or what is made of one of them.
            ticket: of the request.

        Returns:
            Answers and errors in the order of the images.

        Raises:
            DeadlineError: not all were ready by the ticket's deadline.
            UnavailableError: the service is shutting down.
        """
        return await self._counted(len(images), output, self._answer_each(images, output, ticket))

    async def _answer_each(
        self, images: Sequence[bytes | BootlegError], output: str | Derived, ticket: Ticket
    ) -> list[Answer | BootlegError]:
        if self.draining:
            raise UnavailableError("the service is shutting down", retry_after=1)
        wanted = [image for image in images if isinstance(image, bytes)]
        keys = [self._key(output, data) for data in wanted]
        found = await self._cache.get(keys) if keys else []
        missing = [(key, data) for key, data, value in zip(keys, wanted, found, strict=True) if value is None]
        computed: list[NDArray[Any] | BaseException] = []
        if missing:
            async with _until(ticket):
                computed = await self._compute_each(missing, output, ticket)
        results = iter(computed)
        answers = iter(
            _outcome(next(results)) if value is None else Answer(value, key.digest)
            for key, value in zip(keys, found, strict=True)
        )
        return [next(answers) if isinstance(image, bytes) else image for image in images]

    async def answer_ready(self, pixels: NDArray[np.uint8], output: str, ticket: Ticket) -> list[Answer | BootlegError]:
        """Compute one output for images that are decoded and resized, past the cache.

        Args:
            pixels: the encoder's input ``[n, H, W, 3]``.
            output: an output of the model.
            ticket: of the request.

        Returns:
            Answers and errors in the order of the images.

        Raises:
            DeadlineError: not all were ready by the ticket's deadline.
            OverloadedError: the queue is full.
            UnavailableError: the service is shutting down.
        """
        return await self._counted(len(pixels), output, self._answer_ready(pixels, output, ticket))

    async def _answer_ready(
        self, pixels: NDArray[np.uint8], output: str, ticket: Ticket
    ) -> list[Answer | BootlegError]:
        if self.draining:
            raise UnavailableError("the service is shutting down", retry_after=1)
        rows: list[asyncio.Future[NDArray[np.float32]]] = []
        try:
            rows.extend(self._batcher.enqueue(image, output, ticket) for image in pixels)
            async with _until(ticket):
                for row in rows:
                    with contextlib.suppress(Exception):  # told below
                        await row
        finally:
            for row in rows:
                if not row.cancel() and not row.cancelled():
                    row.exception()  # seen, though the time is up
        return [_outcome_of(row, output) for row in rows]

    async def _counted(
        self, images: int, output: str | Derived, answering: Coroutine[Any, Any, list[Answer | BootlegError]]
    ) -> list[Answer | BootlegError]:
        """Await the answers; each image has one outcome, whatever comes."""
        self._outcomes.asked(images)
        try:
            answers = await answering
        except BaseException as error:
            self._outcomes.failed(images, output, error)
            raise
        self._outcomes.answered(answers, output)
        return answers

    async def close(self) -> None:
        """Finish what is in flight and what is being stored."""
        self.draining = True
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def _key(self, output: str | Derived, data: bytes) -> CacheKey:
        kind = output if isinstance(output, str) else output.kind
        space = self._bundle.manifest.embedding_space
        return cache_key(space, self._bundle.sha256, self._preprocess_hash, kind, data)

    async def _compute_each(
        self, wanted: Sequence[tuple[CacheKey, bytes]], output: str | Derived, claim: Claim
    ) -> list[NDArray[Any] | BaseException]:
        """Join the computations of equal images, or begin them; leaving cancels one only for the last to leave."""
        flights = [self._board(key, data, output, claim) for key, data in wanted]
        try:
            await asyncio.wait([flight.answer for flight in flights])  # which cancels none of them
        finally:
            for (key, _), flight in zip(wanted, flights, strict=True):
                self._leave(key, flight, claim)
        return [flight.answer.exception() or flight.answer.result() for flight in flights]

    def _board(self, key: CacheKey, data: bytes, output: str | Derived, claim: Claim) -> _Flight:
        flight = self._flights.get(key.digest)
        if flight is None or flight.answer.done():
            loop = asyncio.get_running_loop()
            flight = self._flights[key.digest] = _Flight(loop.create_future(), Standing())
            flight.standing.join(claim)  # before its task, which begins with whose it is
            flight.task = loop.create_task(self._fly(flight, key, data, output))
            self._tasks.add(flight.task)
            flight.task.add_done_callback(self._tasks.discard)
        else:
            flight.standing.join(claim)
        return flight

    def _leave(self, key: CacheKey, flight: _Flight, claim: Claim) -> None:
        flight.standing.leave(claim)
        if flight.standing.deserted and not flight.answer.done():
            assert flight.task is not None
            flight.task.cancel()
            self._land(key, flight)

    def _land(self, key: CacheKey, flight: _Flight) -> None:
        """Forget a flight; not its successor, which may have taken the place of an abandoned one."""
        if self._flights.get(key.digest) is flight:
            del self._flights[key.digest]

    async def _fly(self, flight: _Flight, key: CacheKey, data: bytes, output: str | Derived) -> None:
        """Compute, answer, and only then store."""
        make = self._encode if isinstance(output, str) else self._derive
        try:
            value = await make(data, output, flight.standing)  # type: ignore[arg-type]  # the one for this output
        except Exception as error:  # noqa: BLE001  # whoever waits for the answer raises it
            flight.answer.set_exception(error)
            flight.answer.exception()  # seen, though all who waited may have left in the meantime
            return
        except asyncio.CancelledError:
            flight.answer.cancel()
            raise
        finally:
            self._land(key, flight)
        flight.answer.set_result(value)
        if value.nbytes <= MAX_KEPT_BYTES or isinstance(output, str):
            await self._cache.put(key, value)

    async def _encode(self, data: bytes, output: str, standing: Standing) -> NDArray[Any]:
        pixels = await self._decode.decode(data, standing)
        return _stored(await self._batcher.submit(pixels, output, standing), output)

    async def _derive(self, data: bytes, output: Derived, standing: Standing) -> NDArray[Any]:
        key = self._key(output.source, data)
        (source,) = await self._cache.get([key])
        if source is None:
            (computed,) = await self._compute_each([(key, data)], output.source, standing)
            if isinstance(computed, BaseException):
                raise computed
            source = computed
        return await output.make(data, source, standing)


@contextlib.asynccontextmanager
async def _until(ticket: Ticket) -> AsyncIterator[None]:
    """Work that ends with the ticket's time."""
    begun = asyncio.get_running_loop().time()
    try:
        async with asyncio.timeout_at(ticket.deadline):
            yield
    except TimeoutError:
        seconds = max(0.0, (ticket.deadline or begun) - begun)
        raise DeadlineError(f"the answer was not ready within {seconds:.2f} s", retry_after=1) from None


def _stored(row: NDArray[np.float32], output: str) -> NDArray[Any]:
    """The row, which is finite, as it is kept and answered."""
    dtype = STORED_DTYPE.get(output, _FLOAT32)
    if row.dtype == dtype:
        return row
    with np.errstate(over="ignore"):
        value: NDArray[Any] = row.astype(dtype)
    if not np.isfinite(value).all():  # float16 overflow
        raise EngineError("the model's answer for this image does not fit float16")
    return value


def _outcome_of(row: asyncio.Future[NDArray[np.float32]], output: str) -> Answer | BootlegError:
    error = row.exception()
    try:
        return _outcome(error if error is not None else _stored(row.result(), output))
    except EngineError as unfit:
        return unfit


def _outcome(result: NDArray[Any] | BaseException) -> Answer | BootlegError:
    """What one image came to; what is no error of ours is raised."""
    if isinstance(result, BootlegError):
        return result
    if isinstance(result, BaseException):
        raise result
    return Answer(result)
