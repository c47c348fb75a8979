"""The client for threads: does the steps of a call with httpx and ``time.sleep``'s interruptible cousin."""

from __future__ import annotations

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, Self, TypeVar

import httpx

from bootleg_client.calls import Calls
from bootleg_client.errors import ClientError
from bootleg_client.settings import Retry, client_settings
from bootleg_client.steps import Lost, Reply, Send, Together, Wait

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from types import TracebackType

    from bootleg_client.answers import Embeddings, Info, Masks, ModelInfo, PatchGrids
    from bootleg_client.calls import MaskMethod, MaskSize, OnError, PatchDtype
    from bootleg_client.images import ImageInput
    from bootleg_client.settings import Priority
    from bootleg_client.steps import Step, Steps

T = TypeVar("T")


class _EndedError(ClientError):
    """Another request of the same call failed."""


class Client:
    """A connection pool to one service; safe to share between threads. Close it, or use it as a context.

    Args:
        url: such as ``http://127.0.0.1:8000``; a path before the routes is kept.
        api_key: sent as a bearer token.
        embedding_space: pin: vectors of another space are refused by the service.
        model: the name of a served model; None: the default one.
        priority: ``bulk`` gives way to others' requests at the service.
        retry: when to repeat a request.
        concurrency: requests of one call in flight at the same time.
        deadline_seconds: of one call, repetitions included.
        attempt_seconds: of one request.
        transport: of httpx, for tests and for certificates of your own.

    Raises:
        InputError: an argument that cannot be.
    """

    def __init__(  # noqa: PLR0913  # one argument a setting
        self,
        url: str,
        *,
        api_key: str | None = None,
        embedding_space: str | None = None,
        model: str | None = None,
        priority: Priority = "interactive",
        retry: Retry | None = None,
        concurrency: int = 4,
        deadline_seconds: float = 120.0,
        attempt_seconds: float = 30.0,
        transport: httpx.BaseTransport | None = None,
    ) -> None:
        settings = client_settings(
            url=url,
            api_key=api_key,
            embedding_space=embedding_space,
            model=model,
            priority=priority,
            retry=retry or Retry(),
            concurrency=concurrency,
            deadline_seconds=deadline_seconds,
            attempt_seconds=attempt_seconds,
        )
        self._concurrency = settings.concurrency
        self._calls = Calls(settings)
        self._http = httpx.Client(base_url=settings.url, headers=self._calls.headers(), transport=transport)

    def embed(
        self,
        images: ImageInput | Iterable[ImageInput],
        *,
        dimensions: int | None = None,
        normalize: bool = False,
        layer: int | None = None,
        on_error: OnError = "raise",
    ) -> Embeddings:
        """Embed images: paths, encoded bytes, Pillow images or uint8 arrays, any number of them.

        Args:
            images: one or many; they are sent in requests as large as the service allows.
            dimensions: keep the first numbers only; such vectors are L2-normalised.
            normalize: L2-normalise the vectors; by default they are as the model gives them.
            layer: a hidden layer that :meth:`models` names, in a space of its own; by default the encoder's end.
            on_error: ``partial`` records images that fail and goes on; their rows are NaN.

        Returns:
            float32 ``[n, D]``, the model, and the embedding space.

        Raises:
            InputError: an image that cannot be read or sent.
            ImageRefusedError: an image the service does not take; ``index`` says which.
            SpaceMismatchError: the service has another space than the one pinned.
            ClientError: any other fault, after repetition where that may help.
        """
        return self._run(
            self._calls.embed(images, dimensions=dimensions, normalize=normalize, layer=layer, on_error=on_error),
        )

    def patches(
        self,
        images: ImageInput | Iterable[ImageInput],
        *,
        dtype: PatchDtype = "float16",
        layer: int | None = None,
        on_error: OnError = "raise",
    ) -> PatchGrids:
        """Patch tokens (dense features): arguments and errors as of :meth:`embed`.

        Returns:
            ``[n, gh, gw, D]`` of ``dtype``, the model, and the embedding space.
        """
        return self._run(self._calls.patches(images, dtype=dtype, layer=layer, on_error=on_error))

    def segment(
        self,
        images: ImageInput | Iterable[ImageInput],
        *,
        head: str | None = None,
        method: MaskMethod | None = None,
        clusters: int | None = None,
        size: MaskSize = "input",
        on_error: OnError = "raise",
    ) -> Masks:
        """Masks as label maps: arguments and errors else as of :meth:`embed`.

        Args:
            images: one or many.
            head: a trained head that :meth:`models` names, with its classes; None: label-free.
            method: label-free: clusters by k-means (the default), normalised cut, or foreground and background.
            clusters: of the first two, at most; by default chosen for each image.
            size: the encoder's input, or the grid of its tokens.
            on_error: as of :meth:`embed`; the maps of images that fail are 255.

        Returns:
            uint8 ``[n, h, w]``, the model, and its embedding space.
        """
        return self._run(
            self._calls.segment(images, head=head, method=method, clusters=clusters, size=size, on_error=on_error),
        )

    def info(self) -> Info:
        """What is served, and the limits of a request."""
        return self._run(self._calls.info())

    def models(self) -> list[ModelInfo]:
        """The served models: dimensions, grid, layers, embedding space."""
        return self._run(self._calls.models())

    def close(self) -> None:
        """Close the connections."""
        self._http.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _run(self, steps: Steps[T], ended: threading.Event | None = None) -> T:
        """Do one call's steps; ``ended`` says that a sibling failed and nobody waits any more."""
        ended = ended or threading.Event()
        outcome: Any = None
        fault: Exception | None = None
        while True:
            try:
                step = steps.send(outcome) if fault is None else steps.throw(fault)
            except StopIteration as done:
                result: T = done.value
                return result
            outcome, fault = None, None
            try:
                outcome = self._do(step, ended)
            except Exception as error:  # noqa: BLE001  # handed to the call, which knows what to do with it
                fault = error

    def _do(self, step: Step, ended: threading.Event) -> Any:
        if ended.is_set():
            raise _EndedError("another request of this call failed")
        if isinstance(step, Send):
            return self._send(step)
        if isinstance(step, Wait):
            ended.wait(step.seconds)
            return None
        if isinstance(step, Together):
            return self._together(step.steps, ended)
        return step.function()

    def _together(self, steps: Sequence[Steps[Any]], outer: threading.Event) -> list[Any]:
        if len(steps) == 1:
            return [self._run(steps[0], outer)]
        ended = threading.Event()

        def run(one: Steps[Any]) -> Any:
            try:
                return self._run(one, ended)
            except BaseException:
                ended.set()
                raise

        with ThreadPoolExecutor(min(self._concurrency, len(steps)), "bootleg-client") as pool:
            futures = [pool.submit(run, one) for one in steps]
            try:
                faults = [future.exception() for future in futures]
            except BaseException:  # Ctrl-C in the caller's thread
                ended.set()
                raise
        first = next((f for f in faults if f and not isinstance(f, _EndedError)), None)
        if first is not None:
            raise first
        return [future.result() for future in futures]

    def _send(self, step: Send) -> Reply | Lost:
        ends = time.monotonic() + step.seconds
        request = self._http.build_request(**step.request.arguments(), timeout=step.seconds)
        try:
            response = self._http.send(request, stream=True)
            try:
                content = bytearray()
                for chunk in response.iter_bytes():  # httpx bounds each read alone, not their sum
                    content += chunk
                    if time.monotonic() > ends:
                        return Lost(f"no whole answer within {step.seconds:.1f} s")
            finally:
                response.close()
        except httpx.TransportError as error:
            return Lost(f"{type(error).__name__}: {error}" if str(error) else type(error).__name__)
        return Reply(response.status_code, {k.lower(): v for k, v in response.headers.items()}, bytes(content))
