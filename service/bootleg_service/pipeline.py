"""From encoded images to answers: cache, single flight, decode, batch. What every route calls.

The path of a request: route -> Pipeline.answer_each -> DecodePool.decode -> Batcher.submit -> Engine.run.
Two queues: the decode pool's and the batcher's.
"""

from __future__ import annotations

import asyncio
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
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from bootleg_bundle import Bundle
    from bootleg_service.batching.batcher import Batcher
    from bootleg_service.batching.ticket import Claim, Ticket
    from bootleg_service.cache import Cache
    from bootleg_service.metrics import Metrics
    from bootleg_service.model_decode import ModelDecode

log = logging.getLogger("bootleg.pipeline")

STORED_DTYPE: dict[str, np.dtype[np.floating]] = {
    "embedding": np.dtype(np.float32),
    "patch_tokens": np.dtype(np.float16),
    "layers": np.dtype(np.float32),
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
    """One image's result; ``hit`` says that it came from the cache."""

    value: NDArray[Any]
    hit: bool


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
    """One computation, and the standing of those who wait for it."""

    task: asyncio.Task[NDArray[Any]]
    standing: Standing

    @property
    def failed(self) -> bool:
        """Whether there is nothing to be had from it."""
        return self.task.done() and (self.task.cancelled() or self.task.exception() is not None)


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
        self._stores: set[asyncio.Task[None]] = set()
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
        self._outcomes.asked(len(images))
        try:
            answers = await self._answer_each(images, output, ticket)
        except BaseException as error:
            self._outcomes.failed(len(images), output, error)
            raise
        self._outcomes.answered(answers, output)
        return answers

    async def _answer_each(
        self, images: Sequence[bytes | BootlegError], output: str | Derived, ticket: Ticket
    ) -> list[Answer | BootlegError]:
        if self.draining:
            raise UnavailableError("the service is shutting down", retry_after=1)
        wanted = [(i, image) for i, image in enumerate(images) if isinstance(image, bytes)]
        keys = [self._key(output, data) for _, data in wanted]
        begun = asyncio.get_running_loop().time()
        try:
            async with asyncio.timeout_at(ticket.deadline):
                found = await self._cache.get(keys) if keys else []
                missing = [j for j, value in enumerate(found) if value is None]
                computed = await asyncio.gather(
                    *(self._compute_once(keys[j], wanted[j][1], output, ticket) for j in missing),
                    return_exceptions=True,
                )
        except TimeoutError:
            seconds = max(0.0, (ticket.deadline or begun) - begun)
            raise DeadlineError(f"the answer was not ready within {seconds:.2f} s", retry_after=1) from None
        answers: list[Answer | BootlegError | None] = [None if isinstance(image, bytes) else image for image in images]
        for (i, _), value in zip(wanted, found, strict=True):
            answers[i] = Answer(value, hit=True) if value is not None else None
        for j, result in zip(missing, computed, strict=True):
            if isinstance(result, BaseException) and not isinstance(result, BootlegError):
                raise result
            answers[wanted[j][0]] = result if isinstance(result, BootlegError) else Answer(result, hit=False)
        return [answer for answer in answers if answer is not None]

    async def close(self) -> None:
        """Finish what is in flight and what is being stored."""
        self.draining = True
        tasks: list[asyncio.Task[Any]] = [flight.task for flight in self._flights.values()]
        await asyncio.gather(*tasks, return_exceptions=True)
        await asyncio.gather(*self._stores, return_exceptions=True)

    def _key(self, output: str | Derived, data: bytes) -> CacheKey:
        kind = output if isinstance(output, str) else output.kind
        space = self._bundle.manifest.embedding_space
        return cache_key(space, self._bundle.sha256, self._preprocess_hash, kind, data)

    async def _compute_once(self, key: CacheKey, data: bytes, output: str | Derived, claim: Claim) -> NDArray[Any]:
        """Join the computation of an equal image, or begin it; leaving cancels it only for the last to leave."""
        flight = self._flights.get(key.digest)
        if flight is None or flight.failed:  # perhaps for want of time, of which this claim has more
            flight = self._begin(key, data, output)
        flight.standing.join(claim)
        try:
            return await asyncio.shield(flight.task)
        finally:
            flight.standing.leave(claim)
            if flight.standing.deserted and not flight.task.done():
                flight.task.cancel()
                self._land(key, flight)

    def _begin(self, key: CacheKey, data: bytes, output: str | Derived) -> _Flight:
        standing = Standing()
        flight = _Flight(asyncio.create_task(self._compute(key, data, output, standing)), standing)
        self._flights[key.digest] = flight
        flight.task.add_done_callback(lambda _: self._land(key, flight))
        return flight

    def _land(self, key: CacheKey, flight: _Flight) -> None:
        """Forget a flight; not its successor, which may have taken the place of an abandoned one."""
        if self._flights.get(key.digest) is flight:
            del self._flights[key.digest]

    async def _compute(self, key: CacheKey, data: bytes, output: str | Derived, standing: Standing) -> NDArray[Any]:
        if isinstance(output, str):
            value = await self._encode(data, output, standing)
        else:
            value = await self._derive(data, output, standing)
        if value.nbytes <= MAX_KEPT_BYTES or isinstance(output, str):
            store = asyncio.create_task(self._cache.put(key, value))
            self._stores.add(store)
            store.add_done_callback(self._stores.discard)
        return value

    async def _encode(self, data: bytes, output: str, standing: Standing) -> NDArray[Any]:
        pixels = await self._decode.decode(data, standing)
        row = await self._batcher.submit(pixels, output, standing)
        with np.errstate(over="ignore"):
            value: NDArray[Any] = row.astype(STORED_DTYPE.get(output, np.float32), copy=False)
        if not np.isfinite(value).all():  # float16 overflow
            raise EngineError("the model's answer for this image does not fit float16")
        return value

    async def _derive(self, data: bytes, output: Derived, standing: Standing) -> NDArray[Any]:
        key = self._key(output.source, data)
        (source,) = await self._cache.get([key])
        if source is None:
            source = await self._compute_once(key, data, output.source, standing)
        return await output.make(data, source, standing)
