"""Every number the service publishes, in a registry of its own so that tests do not share one."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10)
_BATCH = (1, 2, 4, 8, 16, 32, 64, 128)


class Metrics:
    """The service's Prometheus metrics."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        r = self.registry
        self.requests = Counter(
            "bootleg_requests", "Requests by route and outcome (ok or an error code)", ["route", "outcome"], registry=r
        )
        self.request_seconds = Histogram(
            "bootleg_request_seconds", "Time to answer", ["route"], buckets=_SECONDS, registry=r
        )
        self.stage_seconds = Histogram(
            "bootleg_stage_seconds", "Time in a stage, per image or batch", ["stage"], buckets=_SECONDS, registry=r
        )
        self.batch_size = Histogram("bootleg_batch_size", "Images of a forward pass", buckets=_BATCH, registry=r)
        self.images = Counter("bootleg_images", "Images by where their answer came from", ["source"], registry=r)
        self.cache = Counter("bootleg_cache_lookups", "Cache look-ups", ["store", "result"], registry=r)
        self.cache_errors = Counter(
            "bootleg_cache_errors", "Cache faults, each one a miss", ["store", "kind"], registry=r
        )
        self.batch_failures = Counter(
            "bootleg_batch_failures", "Forward passes that failed, by kind of fault", ["fault"], registry=r
        )
        self.rejected = Counter("bootleg_rejected", "Images refused before they were queued", ["reason"], registry=r)
        self.dropped = Counter("bootleg_dropped", "Queued images that were never computed", ["reason"], registry=r)
        self.latency_per_image = Gauge(
            "bootleg_latency_per_image_seconds", "Fitted time of a batch for each of its images", registry=r
        )
        self.latency_fixed = Gauge("bootleg_latency_fixed_seconds", "Fitted time of a batch besides", registry=r)
        self.canary = Gauge("bootleg_canary_passed", "Whether the golden images were last answered rightly", registry=r)
        self.queue_items = Gauge("bootleg_queue_items", "Decoded images waiting for the device", registry=r)
        self.decoding = Gauge("bootleg_decoding", "Images in or before decode", registry=r)
        self.info = Gauge(
            "bootleg_model_info",
            "Always 1; labels say what is served",
            ["model", "space", "device", "precision"],
            registry=r,
        )

    def render(self) -> bytes:
        """Prometheus text format."""
        return generate_latest(self.registry)
