"""The models that a process serves: one for each bundle, the first one the default. Loads, finds and reloads them.

A reload opens a place's bundle again and puts the new model beside the old one; only when it is warm and proved does
the place refer to it. Requests keep the model they began with.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, Literal

from bootleg_bundle import open_bundle
from bootleg_bundle.errors import BootlegError
from bootleg_service.batching.faults import Fault, classify
from bootleg_service.decode_pool import DecodePool
from bootleg_service.errors import ModelNotFoundError, StartupError, UnavailableError
from bootleg_service.gc_freeze import freeze_again
from bootleg_service.health import not_ready
from bootleg_service.loading import Shared, load_model, start_service
from bootleg_service.masks.pool import MaskPool
from bootleg_service.response_cache import ResponseCache
from bootleg_service.telemetry.machine import publish_memory

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Sequence

    from bootleg_bundle import Bundle
    from bootleg_service.cache import Cache
    from bootleg_service.metrics import Metrics
    from bootleg_service.settings import EngineSettings, Settings
    from bootleg_service.state import Service

log = logging.getLogger("bootleg.models")


@dataclass
class Slot:
    """A place for a model.

    Attributes:
        bundle: that is served here, or being loaded.
        service: None until it is served.
        stage: of the first start.
    """

    bundle: Bundle
    service: Service | None = None
    stage: Literal["starting", "warming"] = "starting"

    @property
    def name(self) -> str:
        """By which requests choose the model."""
        return self.bundle.manifest.name


@dataclass(frozen=True)
class Reloaded:
    """What a reload did with one place.

    Attributes:
        source: where the bundle was sought.
        model: that is served there now.
        outcome: ``unchanged``: the bundle is the one that is served; ``failed``: the old model goes on serving.
        embedding_space: that is served there now.
        bundle_sha256: of the bundle served there now.
        reason: of a failure.
    """

    source: str
    model: str
    outcome: Literal["reloaded", "unchanged", "failed"]
    embedding_space: str
    bundle_sha256: str
    reason: str | None = None


class Models:
    """The registry.

    Args:
        bundles: verified; the first one is the default.
        settings: of all of them.
        metrics: of the process.
        cache: shared.
        open_model: opens an engine.
        on_fatal: ends the process.

    Raises:
        StartupError: two bundles have one name.

    Attributes:
        draining: the service is about to stop; requests are still answered.
        started: all models have been ready once.
        ended: False when a call of a model went on after :meth:`close`.
        generation: one more after each reload of a model: what was answered before is not what is served now.
    """

    def __init__(
        self,
        bundles: Sequence[Bundle],
        settings: Settings,
        metrics: Metrics,
        cache: Cache,
        *,
        open_model: Callable[[Bundle, EngineSettings], Any],
        on_fatal: Callable[[BaseException], None] | None = None,
    ) -> None:
        self.slots = [Slot(bundle) for bundle in bundles]
        assert self.slots, "no bundle"
        for slot in reversed(self.slots):
            self._check_name(slot, slot.bundle)
        self.settings = settings
        self.metrics = metrics
        self.draining = False
        self.started = False
        self.ended = True
        self.generation = 0
        self._cache = cache
        self._open_model = open_model
        self._on_fatal = on_fatal
        self._shared: Shared | None = None
        self._device_memory: Any = None
        self._reloading = asyncio.Lock()
        self._tasks: set[asyncio.Task[Any]] = set()
        metrics.ready.set_function(lambda: not not_ready(self))

    @property
    def default(self) -> Service:
        """The model of requests that name none.

        Raises:
            UnavailableError: it is still starting.
        """
        return self.find(None)

    @property
    def served(self) -> list[Service]:
        """The models that are loaded, the default one first.

        Raises:
            UnavailableError: none is.
        """
        return [slot.service for slot in self.slots if slot.service is not None] or [self.default]

    def find(self, name: str | None) -> Service:
        """The model of that name, the default one for None.

        Raises:
            ModelNotFoundError: with the names of those that are served.
            UnavailableError: it is still starting.
        """
        slot = self.slots[0] if name is None else next((slot for slot in self.slots if slot.name == name), None)
        if slot is None:
            served = ", ".join(repr(slot.name) for slot in self.slots)
            raise ModelNotFoundError(f"model: not served here; served: {served}", param="model")
        if slot.service is None:
            raise UnavailableError("the service is starting", retry_after=1)
        return slot.service

    async def start(self) -> None:
        """Load and serve all.

        Raises:
            StartupError: a model cannot be had as configured, or answers wrongly.
        """
        s = self.settings
        decode = DecodePool(
            s.limits.image,
            self.metrics,
            s.decode,
            max_seconds=s.limits.request_seconds / 2,
            shares=s.batch,
        )
        await decode.start()
        masks = MaskPool(s.masks, self.metrics, max_seconds=s.limits.request_seconds / 2, shares=s.batch)
        responses = ResponseCache(s.cache.response_bytes, self.metrics)
        self._shared = shared = Shared(s, self.metrics, self._cache, decode, masks, responses, self._on_fatal)
        for slot in self.slots:
            engine = await asyncio.to_thread(
                load_model, slot.bundle, s, self._open_model, partial(setattr, slot, "stage", "warming")
            )
            slot.service = start_service(slot.bundle, engine, shared)
        self._device_memory = publish_memory(self.metrics, self.default.engine.device)
        self.started = True

    def drain(self) -> None:
        """Say that the end is near: readiness turns red, and requests are still answered."""
        self.draining = True

    def begin_reload(self) -> None:
        """Reload in the background; the log and the metrics say what came of it."""
        self._in_background(self._reload_quietly())

    async def reload(self) -> list[Reloaded]:
        """Open every place's bundle again, and serve those that have changed. One reload at a time; others wait.

        Raises:
            UnavailableError: the service is starting or shutting down.
        """
        async with self._reloading:
            if not self.started or self.draining:
                doing = "shutting down" if self.draining else "starting"
                raise UnavailableError(f"the service is {doing}", retry_after=1)
            done = []
            for slot in self.slots:
                outcome = await self._renew(slot)
                self.metrics.reloads.labels(outcome.outcome).inc()
                level = logging.ERROR if outcome.outcome == "failed" else logging.INFO
                log.log(level, "reload of %s: %s %s", outcome.model, outcome.outcome, outcome.reason or "")
                done.append(outcome)
            return done

    async def close(self) -> None:
        """Finish what is in flight, within a bound, and let everything go."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        ended = await asyncio.gather(*(slot.service.close() for slot in self.slots if slot.service is not None))
        self.ended = all(ended)
        if self._shared is not None:
            await self._shared.decode.close()
            await self._shared.masks.close()
        await self._cache.close()
        if self._device_memory is not None:
            self._device_memory.close()

    async def _renew(self, slot: Slot) -> Reloaded:
        assert self._shared is not None
        old, reason = slot.service, None
        outcome: Literal["reloaded", "unchanged", "failed"] = "unchanged"
        try:
            bundle = await asyncio.to_thread(open_bundle, slot.bundle.source)
            if bundle.sha256 != slot.bundle.sha256:
                self._check_name(slot, bundle)
                engine = await asyncio.to_thread(load_model, bundle, self.settings, self._open_model)
                slot.bundle, slot.service = bundle, start_service(bundle, engine, self._shared)
                self.generation += 1
                outcome = "reloaded"
        except Exception as error:  # whatever it is, the old model goes on serving
            outcome = "failed"
            reason = error.message if isinstance(error, BootlegError) else "an internal error; the server's log has it"
            log.exception("%s stays: the bundle at %s cannot be served", slot.name, slot.bundle.source)
            self._end_if_fatal(error)
        if outcome == "reloaded" and old is not None:
            self._in_background(self._retire(old), then=freeze_again)
        manifest = slot.bundle.manifest
        return Reloaded(
            str(slot.bundle.source), slot.name, outcome, manifest.embedding_space, slot.bundle.sha256, reason
        )

    async def _retire(self, old: Service) -> None:
        """Close a model that requests may still hold; each of them ends within its deadlines."""
        limits = self.settings.limits
        try:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(limits.receive_seconds + limits.request_seconds):
                    await old.let_go_by_all()
        finally:
            await old.close()
        served = [(service.bundle.manifest, service.engine) for service in self.served]
        self.metrics.forget(old.bundle.manifest, old.engine, served=served)
        log.info("the former %s has been closed", old.bundle.manifest.name)

    async def _reload_quietly(self) -> None:
        try:
            await self.reload()
        except UnavailableError as error:
            log.warning("no reload: %s", error.message)

    def _in_background(self, work: Coroutine[Any, Any, None], then: Callable[[], None] | None = None) -> None:
        """Do it, and then, when nothing of it is alive any more, something else."""
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        if then is not None:
            task.add_done_callback(lambda _: asyncio.get_running_loop().call_soon(then))

    def _check_name(self, slot: Slot, bundle: Bundle) -> None:
        """Refuse a name that another place has."""
        name = bundle.manifest.name
        for other in self.slots:
            if other is not slot and other.name == name:
                raise StartupError(
                    f"bundle: {other.bundle.source} and {bundle.source} are both named {name!r}; requests choose a "
                    "model by its name: export one of them under another with --name"
                )

    def _end_if_fatal(self, error: BaseException) -> None:
        """A device that is lost while a model is loaded is lost for those that serve."""
        cause: BaseException | None = error
        while cause is not None:
            if classify(cause) is Fault.FATAL and self._on_fatal is not None:
                self._on_fatal(cause)
            cause = cause.__cause__
