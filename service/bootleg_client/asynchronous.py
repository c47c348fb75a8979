"""The client for asyncio: does the same steps as ``synchronous.py``, on the event loop."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, Self, TypeVar

import httpx

from bootleg_client.calls import Calls
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


class AsyncClient:
    """As :class:`~bootleg_client.Client`, with coroutines in the place of methods that wait."""

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
        transport: httpx.AsyncBaseTransport | None = None,
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
        self._http = httpx.AsyncClient(base_url=settings.url, headers=self._calls.headers(), transport=transport)

    async def embed(
        self,
        images: ImageInput | Iterable[ImageInput],
        *,
        dimensions: int | None = None,
        normalize: bool = False,
        layer: int | None = None,
        on_error: OnError = "raise",
    ) -> Embeddings:
        """As :meth:`bootleg_client.Client.embed`; files are read in threads."""
        return await self._run(
            self._calls.embed(images, dimensions=dimensions, normalize=normalize, layer=layer, on_error=on_error),
        )

    async def patches(
        self,
        images: ImageInput | Iterable[ImageInput],
        *,
        dtype: PatchDtype = "float16",
        layer: int | None = None,
        on_error: OnError = "raise",
    ) -> PatchGrids:
        """As :meth:`bootleg_client.Client.patches`."""
        return await self._run(self._calls.patches(images, dtype=dtype, layer=layer, on_error=on_error))

    async def segment(
        self,
        images: ImageInput | Iterable[ImageInput],
        *,
        head: str | None = None,
        method: MaskMethod | None = None,
        clusters: int | None = None,
        size: MaskSize = "input",
        on_error: OnError = "raise",
    ) -> Masks:
        """As :meth:`bootleg_client.Client.segment`."""
        return await self._run(
            self._calls.segment(images, head=head, method=method, clusters=clusters, size=size, on_error=on_error),
        )

    async def info(self) -> Info:
        """What is served, and the limits of a request."""
        return await self._run(self._calls.info())

    async def models(self) -> list[ModelInfo]:
        """The served models: dimensions, grid, layers, embedding space."""
        return await self._run(self._calls.models())

    async def close(self) -> None:
        """Close the connections."""
        await self._http.aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def _run(self, steps: Steps[T]) -> T:
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
                outcome = await self._do(step)
            except Exception as error:  # noqa: BLE001  # handed to the call, which knows what to do with it
                fault = error

    async def _do(self, step: Step) -> Any:
        if isinstance(step, Send):
            return await self._send(step)
        if isinstance(step, Wait):
            return await asyncio.sleep(step.seconds)
        if isinstance(step, Together):
            return await self._together(step.steps)
        return await asyncio.to_thread(step.function)

    async def _together(self, steps: Sequence[Steps[Any]]) -> list[Any]:
        free = asyncio.Semaphore(self._concurrency)

        async def run(one: Steps[Any]) -> Any:
            async with free:
                return await self._run(one)

        tasks = [asyncio.create_task(run(one)) for one in steps]
        try:
            return await asyncio.gather(*tasks)
        finally:  # the first fault, or the caller's own cancellation, ends the others
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _send(self, step: Send) -> Reply | Lost:
        request = self._http.build_request(**step.request.arguments(), timeout=step.seconds)
        try:
            async with asyncio.timeout(step.seconds):
                response = await self._http.send(request)
        except TimeoutError:
            return Lost(f"no whole answer within {step.seconds:.1f} s")
        except httpx.TransportError as error:
            return Lost(f"{type(error).__name__}: {error}" if str(error) else type(error).__name__)
        return Reply(response.status_code, {k.lower(): v for k, v in response.headers.items()}, response.content)
