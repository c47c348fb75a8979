"""Traces by OpenTelemetry, sent over OTLP. Imported only when an operator asks for traces; an extra of that name.

A request is one trace, its caller's if it came with a ``traceparent``: a span for the whole, below it one for each
stage of each image, and the batches it ran in, each linked to all the requests that shared it. Stages are kept as
plain tuples while the request runs and become spans at its end.
"""

from __future__ import annotations

import importlib.metadata
import time
from typing import TYPE_CHECKING, Any, Final

from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import OTELResourceDetector, Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.trace import Link, SpanKind, Status, StatusCode
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from bootleg_service.errors import StartupError
from bootleg_service.telemetry.endings import CLOSED_STATUS, UNKNOWN

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from opentelemetry.trace import Span, SpanContext

    from bootleg_service.stages import Stage, Trace

MAX_SPANS: Final = 512
"""Of one request; a thousand images give no clearer picture than the first hundred."""
MAX_PATH: Final = 256
SERVICE: Final = "bootleg-vision"

_CARRIED: Final = {b"traceparent", b"tracestate"}
_propagator = TraceContextTextMapPropagator()


def open_tracing(endpoint: str | None, protocol: str | None = None) -> OtelTracing:
    """Trace to an OTLP collector.

    What is not given here, the SDK takes from the ``OTEL_*`` variables by its documentation: endpoint, headers,
    sampler, limits, the service's name. So this is for the entry point to call.

    Args:
        endpoint: the collector's base, such as ``http://localhost:4318``; None: the variables'.
        protocol: what the variables ask for.

    Raises:
        StartupError: the endpoint is no URL, or another protocol than http/protobuf is asked for.
    """
    if endpoint is not None and not endpoint.startswith(("http://", "https://")):
        raise StartupError(f"--otel-endpoint {endpoint!r}: write http://HOST:PORT or https://HOST:PORT")
    if protocol not in {None, "", "http/protobuf"}:
        raise StartupError(f"OTEL_EXPORTER_OTLP_PROTOCOL = {protocol!r}: traces are sent as http/protobuf only")
    version = importlib.metadata.version(SERVICE)
    named = Resource.create({"service.name": SERVICE, "service.version": version})
    provider = TracerProvider(resource=named.merge(OTELResourceDetector().detect()), shutdown_on_exit=False)
    exporter = OTLPSpanExporter(endpoint=f"{endpoint.rstrip('/')}/v1/traces" if endpoint is not None else None)
    provider.add_span_processor(BatchSpanProcessor(exporter))
    return OtelTracing(provider)


class OtelTracing:
    """Makes traces with a provider."""

    def __init__(self, provider: TracerProvider) -> None:
        self._provider = provider
        self._tracer = provider.get_tracer(SERVICE, importlib.metadata.version(SERVICE))

    def begin(self, scope: Mapping[str, Any]) -> OtelTrace:
        """Start a request's trace, below its caller's span if it has one."""
        carrier = {name.decode(): value.decode("latin-1") for name, value in scope["headers"] if name in _CARRIED}
        parent = _propagator.extract(carrier, Context())
        attributes = {"url.path": scope["path"][:MAX_PATH], "url.scheme": scope["scheme"]}
        return OtelTrace(self._tracer, self._tracer.start_span("request", parent, SpanKind.SERVER, attributes))

    def end(self, request: Trace, ending: Mapping[str, Any]) -> None:
        """Write a request's spans."""
        assert isinstance(request, OtelTrace)
        request.end(ending)

    def close(self) -> None:
        """Send what is left."""
        self._provider.shutdown()


class OtelTrace:
    """One request's trace."""

    def __init__(self, tracer: trace.Tracer, span: Span) -> None:
        self.span = span
        self.trace_id = trace.format_trace_id(span.get_span_context().trace_id)
        self.recording = span.is_recording()
        self._tracer = tracer
        self._inside = trace.set_span_in_context(span, Context())
        self._stages: list[tuple[Stage, float, float]] = []
        self._batches: list[SpanContext] = []

    def took(self, stage: Stage, begun: float, ended: float) -> None:
        """Keep a stage, in seconds of ``time.perf_counter``."""
        if len(self._stages) < MAX_SPANS:
            self._stages.append((stage, begun, ended))

    def batch(self, requests: Sequence[Trace], seconds: float, about: Mapping[str, int]) -> None:
        """Write the span of a batch that has just run, linked to its requests, which are linked to it in turn.

        It is a part of this trace, as of the first request's: a trace of its own would be sampled by itself.
        """
        shared = list(dict.fromkeys(each for each in requests if isinstance(each, OtelTrace)))
        links = [Link(each.span.get_span_context()) for each in shared]
        now = time.time_ns()
        attributes = {f"bootleg.batch.{name}": count for name, count in about.items()}
        span = self._tracer.start_span(
            "batch", self._inside, links=links, attributes=attributes, start_time=now - int(seconds * 1e9)
        )
        span.end(now)
        for each in shared:
            each.span.add_link(span.get_span_context())

    def end(self, ending: Mapping[str, Any]) -> None:
        """Write the stages' spans, then close the request's own."""
        if not self.recording:
            return
        epoch = time.time_ns() - int(time.perf_counter() * 1e9)
        for stage, begun, ended in self._stages:
            span = self._tracer.start_span(stage, self._inside, start_time=epoch + int(begun * 1e9))
            span.end(epoch + int(ended * 1e9))
        known = ending["route"] != UNKNOWN
        self.span.update_name(f"{ending['method']} {ending['route']}" if known else ending["method"])
        self.span.set_attributes(_attributes(ending))
        if ending["status"] >= 500:
            self.span.set_status(Status(StatusCode.ERROR))
        self.span.end()


def _attributes(ending: Mapping[str, Any]) -> dict[str, str | int]:
    """By OpenTelemetry's conventions for HTTP servers; what they have no name for begins with ``bootleg.``."""
    attributes = {
        "http.request.method": ending["method"],
        "http.request.body.size": ending["bytes_in"],
        "http.response.body.size": ending["bytes_out"],
        "bootleg.request_id": ending["request_id"],
        "bootleg.outcome": ending["outcome"],
        "bootleg.images": ending["images"],
    }
    if ending["route"] != UNKNOWN:
        attributes["http.route"] = ending["route"]
    if ending["status"] != CLOSED_STATUS:
        attributes["http.response.status_code"] = ending["status"]
    if ending["status"] >= 500:  # by the conventions a 4xx is no error of a server's span
        attributes["error.type"] = ending["outcome"]
    for name in ("cache", "client"):
        if name in ending:
            attributes[f"bootleg.{name}"] = ending[name]
    return attributes
