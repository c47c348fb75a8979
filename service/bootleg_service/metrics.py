"""Every number the service publishes, in a registry of its own so that tests do not share one.

What changes with each request is counted where it happens, on children that are looked up once. What only stands
somewhere (a queue's length, memory) is read when Prometheus asks, and costs a request nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector, generate_latest
from prometheus_client.core import CounterMetricFamily

from bootleg_service.stages import STAGES

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator

    from bootleg_bundle import Manifest
    from bootleg_service.engine import Engine

SECONDS: Final = tuple(1e-4 * 2**i for i in range(18))
"""Buckets of every duration: 100 microseconds to 13 seconds, each twice the one before."""
BYTES: Final = tuple(256.0 * 4**i for i in range(10))
"""Buckets of bodies: 256 bytes to 64 MiB."""
_BATCH: Final = (1, 2, 4, 8, 16, 32, 64, 128)


class Metrics:
    """The service's Prometheus metrics."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self._models: dict[str, ModelMetrics] = {}
        self._of_requests(self.registry)
        self._of_images(self.registry)
        self._of_batches(self.registry)
        self._of_the_process(self.registry)

    def _of_requests(self, r: CollectorRegistry) -> None:
        self.requests = Counter(
            "bootleg_requests",
            "Requests by how they ended: `outcome` is ok, an error's code, or client_closed (with status 499)",
            ["route", "dialect", "status", "outcome"],
            registry=r,
        )
        self.in_flight = Gauge("bootleg_in_flight_requests", "Requests being answered", registry=r)
        self.request_seconds = Histogram(
            "bootleg_request_seconds",
            "Time to answer, from a request's head to the answer's last byte",
            ["route"],
            buckets=SECONDS,
            registry=r,
        )
        self.stage_seconds = Histogram(
            "bootleg_stage_seconds",
            "Time in a stage, per request, image or batch",
            ["stage"],
            buckets=SECONDS,
            registry=r,
        )
        self.stage = {stage: self.stage_seconds.labels(stage) for stage in STAGES}
        self.payload = Histogram(
            "bootleg_payload_bytes",
            "Bodies, received (in) and sent (out)",
            ["direction"],
            buckets=BYTES,
            registry=r,
        )

    def _of_images(self, r: CollectorRegistry) -> None:
        self.images = Counter(
            "bootleg_images",
            "Images asked for, by how they ended: cached, computed, an error's code, or client_closed",
            ["task", "outcome"],
            registry=r,
        )
        self.cache = Counter("bootleg_cache_lookups", "Cache look-ups", ["store", "result"], registry=r)
        self.cache_errors = Counter(
            "bootleg_cache_errors", "Cache faults, each one a miss", ["store", "kind"], registry=r
        )
        self.cache_bytes = Gauge("bootleg_cache_bytes", "Results kept in the process", registry=r)
        self.cache_entries = Gauge("bootleg_cache_entries", "How many they are", registry=r)
        self.response_cache_bytes = Gauge(
            "bootleg_response_cache_bytes", "Whole responses kept in the process", registry=r
        )
        self.cache_up = Gauge(
            "bootleg_cache_up", "Whether the last call of a shared cache succeeded", ["store"], registry=r
        )
        self.cache_breaker = Gauge(
            "bootleg_cache_breaker_open", "Whether calls of a shared cache are left out", ["store"], registry=r
        )
        self.rejected = Counter(
            "bootleg_rejected", "Images refused for want of room, time or quota", ["reason"], registry=r
        )
        self.dropped = Counter("bootleg_dropped", "Queued images that were never computed", ["reason"], registry=r)
        self.decoders_replaced = Counter(
            "bootleg_decoders_replaced", "Decoding processes that were replaced, by why", ["reason"], registry=r
        )
        self.connections_closed = Counter(
            "bootleg_connections_closed",
            "Connections that a limit ended in mid-request",
            ["reason"],
            registry=r,
        )
        self.held_bytes = Gauge("bootleg_held_bytes", "Bodies of requests that are received or answered", registry=r)
        self.decoding = Gauge("bootleg_decoding", "Images in or before decode", registry=r)
        self.masking = Gauge("bootleg_masking", "Masks being made, or waiting to be", registry=r)

    def _of_batches(self, r: CollectorRegistry) -> None:
        model = ["model"]
        self.batch_size = Histogram("bootleg_batch_size", "Images of a forward pass", model, buckets=_BATCH, registry=r)
        self.padding = Counter(
            "bootleg_batch_padding", "Black images that filled batches up to a size the device runs", model, registry=r
        )
        self.batch_wait = Histogram(
            "bootleg_batch_wait_seconds",
            "Time a free device waited for a batch to grow",
            model,
            buckets=SECONDS,
            registry=r,
        )
        self.batch_failures = Counter(
            "bootleg_batch_failures", "Forward passes that failed, by kind of fault", ["model", "fault"], registry=r
        )
        self.queue_items = Gauge("bootleg_queue_items", "Decoded images waiting for the device", model, registry=r)
        self.queue_bytes = Gauge("bootleg_queue_bytes", "Their pixels", model, registry=r)
        self.engine_busy = Read(
            "bootleg_engine_busy_seconds", "Time the engine's thread was busy; its rate is the share", r
        )
        self.latency_per_image = Gauge(
            "bootleg_latency_per_image_seconds", "Fitted time of a batch for each of its images", model, registry=r
        )
        self.latency_fixed = Gauge("bootleg_latency_fixed_seconds", "Fitted time of a batch besides", model, registry=r)
        self.canary = Gauge(
            "bootleg_canary_passed", "Whether the golden images were last answered rightly", model, registry=r
        )
        self.stalled = Gauge("bootleg_model_stalled", "Whether a call of the model does not end", model, registry=r)
        self.info = Gauge(
            "bootleg_model_info",
            "Always 1; labels say what is served",
            ["model", "space", "device", "precision"],
            registry=r,
        )

    def _of_the_process(self, r: CollectorRegistry) -> None:
        self.reloads = Counter("bootleg_reloads", "Bundles opened again, by what came of it", ["outcome"], registry=r)
        self.ready = Gauge("bootleg_ready", "Whether requests are welcome", registry=r)
        self.build = Gauge(
            "bootleg_build_info",
            "Always 1; labels say what runs",
            ["version", "python", "onnxruntime"],
            registry=r,
        )
        self.device_memory = Gauge(
            "bootleg_device_memory_bytes", "Memory of the GPU, used (by anybody) and free", ["state"], registry=r
        )
        ProcessCollector(registry=r)  # Linux only: elsewhere these are missing

    def of_model(self, name: str) -> ModelMetrics:
        """What is counted for one model: always the same object for the same name."""
        if name not in self._models:
            self._models[name] = ModelMetrics(self, name)
        return self._models[name]

    def describe(self, manifest: Manifest, engine: Engine) -> None:
        """Say which model is served."""
        self.info.labels(*_description(manifest, engine)).set(1)

    def forget(self, manifest: Manifest, engine: Engine, *, served: Collection[tuple[Manifest, Engine]]) -> None:
        """Stop publishing what a model that was closed has left, but for what those that are ``served`` have too."""
        name, description = manifest.name, _description(manifest, engine)
        if description not in {_description(*other) for other in served}:  # a new head changes none of the labels
            self.info.remove(*description)
        if name not in {other.name for other, _ in served}:
            del self._models[name], self.engine_busy.by_model[name]
            of_model = (self.batch_size, self.padding, self.batch_wait, self.queue_items, self.queue_bytes)
            for metric in (*of_model, self.latency_per_image, self.latency_fixed, self.canary, self.stalled):
                metric.remove(name)

    def render(self) -> bytes:
        """Prometheus text format."""
        return generate_latest(self.registry)


def _description(manifest: Manifest, engine: Engine) -> tuple[str, str, str, str]:
    return manifest.name, manifest.embedding_space, engine.device, engine.precision


class ModelMetrics:
    """The children of one model, looked up once."""

    def __init__(self, metrics: Metrics, model: str) -> None:
        self.batch_size = metrics.batch_size.labels(model)
        self.padding = metrics.padding.labels(model)
        self.batch_wait = metrics.batch_wait.labels(model)
        self.queue_items = metrics.queue_items.labels(model)
        self.queue_bytes = metrics.queue_bytes.labels(model)
        self.latency_per_image = metrics.latency_per_image.labels(model)
        self.latency_fixed = metrics.latency_fixed.labels(model)
        self.canary = metrics.canary.labels(model)
        self.stalled = metrics.stalled.labels(model)
        self._metrics = metrics
        self._model = model

    def failed(self, fault: str) -> None:
        """Count a forward pass that failed."""
        self._metrics.batch_failures.labels(self._model, fault).inc()

    def read_busy(self, seconds: Callable[[], float]) -> None:
        """Publish what ``seconds`` gives: how long the engine's thread has been busy since it began."""
        self._metrics.engine_busy.by_model[self._model] = seconds


class Read:
    """A counter for each model that is read when asked for: Prometheus' client has that for gauges only."""

    def __init__(self, name: str, says: str, registry: CollectorRegistry) -> None:
        self.by_model: dict[str, Callable[[], float]] = {}
        self._name, self._says = name, says
        registry.register(self)

    def collect(self) -> Iterator[CounterMetricFamily]:
        """Called by the registry."""
        family = CounterMetricFamily(self._name, self._says, labels=["model"])
        for model, seconds in self.by_model.items():
            family.add_metric([model], seconds())
        yield family
