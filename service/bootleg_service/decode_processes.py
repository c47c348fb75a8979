"""Processes that decode, in the place of the decode pool's threads.

Each decodes one image at a time under a deadline and a limit on memory. One that dies costs its image a second try, in
a new process; one that is too slow is killed. The rest of the service sees an image at fault.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import math
import os
import sys
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Literal

import numpy as np

from bootleg_bundle.errors import BootlegError, CorruptImageError, EmptyImageError, ImageFormatError, ImageLimitError
from bootleg_service.decode_worker import ANSWER, FAULT, LENGTH
from bootleg_service.errors import DecodeError, UnavailableError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from bootleg_bundle import PreprocessSpec
    from bootleg_bundle.images import ImageLimits
    from bootleg_service.bounded_pool import Job
    from bootleg_service.metrics import Metrics
    from bootleg_service.settings import DecodeSettings

    Encoded = tuple[bytes, PreprocessSpec]

log = logging.getLogger("bootleg.decode")

START_SECONDS: Final = 60.0
"""For the interpreter and its imports, on a machine that has other things to do."""

END_SECONDS: Final = 5.0
"""For an idle process that is told to end, after which it is killed."""

_MAX_FAULT_BYTES: Final = 10_000
_FAULTS: Final[dict[str, type[BootlegError]]] = {
    error.code: error for error in (EmptyImageError, ImageFormatError, ImageLimitError, CorruptImageError)
}


@dataclass(frozen=True)
class Decoded:
    """The encoder's input ``[H, W, 3]`` of one image, and what it took."""

    pixels: NDArray[np.uint8]
    decode_seconds: float
    preprocess_seconds: float


class WorkerDied(Exception):  # noqa: N818  # an event, never shown
    """A process ended, or said what it never should."""


class Processes:
    """Decoding processes; one that is gone is started again when it is needed. Used from one event loop."""

    ahead = 0

    def __init__(self, limits: ImageLimits, settings: DecodeSettings, metrics: Metrics) -> None:
        self.size = settings.processes
        self._seconds = settings.seconds
        self._metrics = metrics
        self._arguments = (limits.model_dump_json(), str(settings.memory_bytes))
        self._idle: list[_Worker] = []
        self._busy: set[_Worker] = set()
        self._closed = False
        self._ending: set[asyncio.Task[None]] = set()

    def run(self, job: Job[Encoded, Decoded]) -> asyncio.Task[Decoded]:
        """Decode one image in the next free process.

        Raises:
            ImageError: it is no image we accept.
            DecodeError: it took too long, or two processes ended over it.
        """
        return asyncio.create_task(self._run(job))

    async def _run(self, job: Job[Encoded, Decoded]) -> Decoded:
        try:
            return await self._once(job)
        except WorkerDied:
            try:
                return await self._once(job)
            except WorkerDied:
                raise DecodeError("decoding the image ended the process that tried, twice") from None

    async def start(self) -> None:
        """Start all of them.

        Raises:
            UnavailableError: one does not start.
        """
        starting = (_Worker.start(self._arguments) for _ in range(self.size))
        started = await asyncio.gather(*starting, return_exceptions=True)
        self._idle += [worker for worker in started if isinstance(worker, _Worker)]
        for error in started:
            if isinstance(error, BaseException):
                await self.close()
                raise error

    async def close(self) -> None:
        """End the processes; what they are still at, nobody waits for."""
        self._closed = True
        for worker in self._busy:
            self._end(worker)
        await asyncio.gather(*(worker.close() for worker in self._idle), *self._ending)

    async def _once(self, job: Job[Encoded, Decoded]) -> Decoded:
        data, spec = job.task
        worker = await self._worker()
        self._busy.add(worker)
        job.begun = time.perf_counter()
        try:
            async with asyncio.timeout(self._seconds):
                answer = await worker.decode(data, spec)
        except TimeoutError:
            self._replace(worker, "deadline")
            raise DecodeError(f"decoding the image took over {self._seconds:g} s, which is the limit") from None
        except WorkerDied:
            self._replace(worker, "died")
            raise
        except BaseException:
            self._end(worker)  # what it would still say is nobody's
            raise
        finally:
            self._busy.discard(worker)
        job.seconds = time.perf_counter() - job.begun
        self._idle.append(worker)
        if isinstance(answer, BootlegError):
            raise answer
        return answer

    async def _worker(self) -> _Worker:
        if self._closed:
            raise UnavailableError("the service is shutting down", retry_after=1)
        while self._idle:
            worker = self._idle.pop()
            if worker.alive:
                return worker
            self._replace(worker, "died")
        return await _Worker.start(self._arguments)

    def _replace(self, worker: _Worker, reason: Literal["died", "deadline"]) -> None:
        """Do away with a process; the next image starts another."""
        log.warning("a decoding process is replaced: %s", reason)
        self._metrics.decoders_replaced.labels(reason).inc()
        self._end(worker)

    def _end(self, worker: _Worker) -> None:
        ending = asyncio.create_task(worker.kill())
        self._ending.add(ending)
        ending.add_done_callback(self._ending.discard)


class _Worker:
    """One process and its pipes."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        assert process.stdin is not None
        assert process.stdout is not None
        self._process = process
        self._in = process.stdin
        self._out = process.stdout

    @classmethod
    async def start(cls, arguments: tuple[str, ...]) -> _Worker:
        """Start one, and wait until it is ready.

        Raises:
            UnavailableError: it does not start.
        """
        # Secrets of the server's own settings are nothing for a decoder. One thread is all it needs.
        environment = {name: value for name, value in os.environ.items() if not name.startswith("BOOTLEG_")}
        environment |= {"OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"}
        pipe = asyncio.subprocess.PIPE
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "bootleg_service.decode_worker",
            *arguments,
            stdin=pipe,
            stdout=pipe,
            env=environment,
            limit=2**20,
        )
        worker = cls(process)
        try:
            async with asyncio.timeout(START_SECONDS):
                await worker.answer((0,))
        except (TimeoutError, WorkerDied):
            await worker.kill()
            raise UnavailableError("a decoding process cannot be started", retry_after=10) from None
        except BaseException:
            await worker.kill()
            raise
        return worker

    @property
    def alive(self) -> bool:
        """Whether it has not ended."""
        return self._process.returncode is None

    async def decode(self, data: bytes, spec: PreprocessSpec) -> Decoded | BootlegError:
        """Pixels ``[H, W, 3]`` of one image, or what is wrong with it.

        Raises:
            WorkerDied: the process ended, or said what it never should.
        """
        try:
            text = spec.model_dump_json().encode()
            self._in.writelines([LENGTH.pack(len(text)), text, LENGTH.pack(len(data)), data])
            await self._in.drain()
        except OSError as error:
            raise WorkerDied from error
        return await self.answer((spec.height, spec.width, 3))

    async def answer(self, shape: tuple[int, ...]) -> Decoded | BootlegError:
        """What it says next: pixels of a shape, or a fault."""
        try:
            status, length, decode, preprocess = ANSWER.unpack(await self._out.readexactly(ANSWER.size))
            if length != math.prod(shape) and not (status == FAULT and length <= _MAX_FAULT_BYTES):
                raise WorkerDied
            payload = await self._out.readexactly(length)
        except (asyncio.IncompleteReadError, OSError) as error:
            raise WorkerDied from error
        if status == FAULT:
            return _fault(payload)
        return Decoded(np.frombuffer(payload, np.uint8).reshape(shape), decode, preprocess)

    async def close(self) -> None:
        """Let it end by itself."""
        self._in.close()
        try:
            async with asyncio.timeout(END_SECONDS):
                await self._process.wait()
        except TimeoutError:
            self._process.kill()
            await self._process.wait()

    async def kill(self) -> None:
        """End it now."""
        with contextlib.suppress(ProcessLookupError):
            self._process.kill()
        await self.close()


def _fault(payload: bytes) -> BootlegError:
    try:
        code, message = json.loads(payload)
        made: Any = _FAULTS[code](message)
    except (ValueError, KeyError, TypeError) as error:
        raise WorkerDied from error
    assert isinstance(made, BootlegError)
    return made
