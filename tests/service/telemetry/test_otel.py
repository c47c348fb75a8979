"""Traces: whose they are, what spans they have, and that a collector receives them."""

import asyncio
import http.server
import subprocess
import sys
import threading
from types import SimpleNamespace

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF, ParentBased
from opentelemetry.trace import SpanKind, StatusCode

from bootleg_service import cli, stages
from bootleg_service.errors import StartupError
from bootleg_service.telemetry import otel
from bootleg_service.telemetry.otel import OtelTracing, open_tracing
from tests.service.fake_engine import FakeEngine
from tests.service.pictures import shade
from tests.service.serving import EMBEDDINGS, eventually, serving

pytestmark = pytest.mark.anyio

CALLER = "4bf92f3577b34da6a3ce929d0e0e4736"
PARENT = "00f067aa0ba902b7"
TRACED = {"traceparent": f"00-{CALLER}-{PARENT}-01"}
OTEL = (
    "OTEL_SDK_DISABLED",
    "OTEL_TRACES_EXPORTER",
    "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT",
    "OTEL_EXPORTER_OTLP_ENDPOINT",
    "OTEL_EXPORTER_OTLP_PROTOCOL",
    "OTEL_EXPORTER_OTLP_TRACES_PROTOCOL",
    "OTEL_SERVICE_NAME",
)


class Kept:
    """Tracing whose spans are kept in memory."""

    def __init__(self, **options):
        self._exporter = InMemorySpanExporter()
        provider = TracerProvider(shutdown_on_exit=False, **options)
        provider.add_span_processor(SimpleSpanProcessor(self._exporter))
        self.tracing = OtelTracing(provider)

    @property
    def spans(self):
        return self._exporter.get_finished_spans()

    def named(self, name):
        return [span for span in self.spans if span.name == name]

    def one(self, name):
        (span,) = self.named(name)
        return span


@pytest.fixture
def kept():
    return Kept()


@pytest.fixture
async def traced(engine, kept):
    async with serving(engine, tracing=kept.tracing) as running:
        yield running


def linked(span):
    return {link.context.span_id for link in span.links}


async def test_a_request_has_a_span_below_its_callers_and_one_for_each_stage(traced, kept):
    answer = await traced.embed(shade(1), headers=TRACED)
    whole = kept.one(f"POST {EMBEDDINGS}")
    assert whole.kind is SpanKind.SERVER
    assert f"{whole.context.trace_id:032x}" == CALLER
    assert f"{whole.parent.span_id:016x}" == PARENT
    assert dict(whole.attributes) == {
        "url.path": EMBEDDINGS,
        "url.scheme": "http",
        "http.request.method": "POST",
        "http.route": EMBEDDINGS,
        "http.response.status_code": 200,
        "http.request.body.size": len(shade(1)),
        "http.response.body.size": len(answer.content),
        "bootleg.request_id": answer.headers["x-request-id"],
        "bootleg.outcome": "ok",
        "bootleg.images": 1,
        "bootleg.cache": "miss",
    }
    below = [kept.one(stage) for stage in ("read", "wait", "decode", "preprocess", "queue", "infer", "encode")]
    assert {span.parent.span_id for span in below} == {whole.context.span_id}
    assert {span.context.trace_id for span in below} == {whole.context.trace_id}


def test_a_stage_is_kept_with_its_times_however_late_it_is_told(kept, monkeypatch):
    monkeypatch.setattr(stages, "time", SimpleNamespace(perf_counter=lambda: 100.0))
    trace = kept.tracing.begin({"headers": [], "path": "/", "scheme": "http"})
    stages.begin("id", trace)
    stages.took("wait", 2.0, ago=5.0)
    stages.took("decode", 4.0, ago=1.0)
    ending = {"route": "unknown", "method": "GET", "status": 200, "outcome": "ok", "request_id": "id"}
    kept.tracing.end(trace, ending | {"images": 1, "bytes_in": 0, "bytes_out": 0})
    wait, decode = kept.one("wait"), kept.one("decode")
    assert wait.end_time - wait.start_time == 2_000_000_000
    assert decode.end_time - decode.start_time == 4_000_000_000
    assert decode.start_time == wait.end_time


async def test_a_request_without_a_parent_begins_a_trace_of_its_own(traced, kept):
    await traced.embed(shade(1))
    await traced.embed(shade(2), headers={"traceparent": "not one"})
    first, second = kept.named(f"POST {EMBEDDINGS}")
    assert first.parent is second.parent is None
    assert first.context.trace_id != second.context.trace_id


async def test_a_batch_is_linked_to_all_its_requests_and_they_to_it(traced, kept):
    traced.engine.hold()
    first = asyncio.create_task(traced.embed(shade(0)))
    await eventually(lambda: traced.engine.running == 1)
    others = [asyncio.create_task(traced.embed(shade(n))) for n in (1, 2, 3)]
    await eventually(lambda: traced.sample("bootleg_queue_items") == 3)
    traced.engine.release()
    await asyncio.gather(first, *others)
    (batch,) = [span for span in kept.named("batch") if span.attributes["bootleg.batch.images"] == 3]
    sharers = [span for span in kept.named(f"POST {EMBEDDINGS}") if batch.context.span_id in linked(span)]
    assert len(sharers) == 3
    assert linked(batch) == {span.context.span_id for span in sharers}
    assert batch.parent.span_id in linked(batch)
    assert batch.attributes["bootleg.batch.size"] == 3


async def test_a_request_of_several_images_is_linked_to_its_batch_once(traced, kept):
    files = [("images", ("x", shade(n), "image/png")) for n in range(4)]
    await traced.client.post(EMBEDDINGS, files=files)
    whole = kept.one(f"POST {EMBEDDINGS}")
    batches = kept.named("batch")
    assert sum(batch.attributes["bootleg.batch.images"] for batch in batches) == 4
    assert [link.context.span_id for link in whole.links] == [batch.context.span_id for batch in batches]
    assert len(kept.named("decode")) == 4


async def test_faults_of_the_service_are_errors_and_faults_of_the_caller_are_not(traced, kept):
    await traced.embed(b"")
    traced.engine.broken = True
    await traced.embed(shade(1))
    await traced.client.get("/nowhere")
    bad, failed = kept.named(f"POST {EMBEDDINGS}")
    assert bad.status.status_code is StatusCode.UNSET
    assert "error.type" not in bad.attributes
    assert bad.attributes["bootleg.outcome"] == "empty_image"
    assert failed.status.status_code is StatusCode.ERROR
    assert failed.attributes["error.type"] == "engine_error"
    assert "http.route" not in kept.one("GET").attributes


async def test_a_request_whose_client_left_has_no_status(traced, kept):
    traced.engine.hold()
    task = asyncio.create_task(traced.embed(shade(1)))
    await eventually(lambda: traced.engine.running == 1)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    whole = kept.one(f"POST {EMBEDDINGS}")
    assert "http.response.status_code" not in whole.attributes
    assert whole.attributes["bootleg.outcome"] == "client_closed"


async def test_what_is_not_sampled_has_no_spans_but_an_id_in_the_log(engine, caplog):
    caplog.set_level("INFO", "bootleg.request")
    kept = Kept(sampler=ParentBased(ALWAYS_OFF))
    async with serving(engine, tracing=kept.tracing) as served:
        await served.embed(shade(1))
        await served.embed(shade(2), headers=TRACED)
    assert {f"{span.context.trace_id:032x}" for span in kept.spans} == {CALLER}
    own, callers = (record.fields["trace_id"] for record in caplog.records if record.name == "bootleg.request")
    assert len(own) == 32
    assert own != callers == CALLER


async def test_the_spans_of_one_request_are_bounded(traced, kept, monkeypatch):
    monkeypatch.setattr(otel, "MAX_SPANS", 10)
    files = [("images", ("x", shade(n), "image/png")) for n in range(20)]
    assert (await traced.client.post(EMBEDDINGS, files=files)).status_code == 200
    assert len([span for span in kept.spans if span.kind is SpanKind.INTERNAL and span.name != "batch"]) == 10


class Collector(http.server.BaseHTTPRequestHandler):
    """An OTLP collector that keeps what it is sent."""

    def do_POST(self):
        body = self.rfile.read(int(self.headers["content-length"]))
        self.server.received.append((self.path, self.headers["content-type"], body))
        self.send_response(200)
        self.send_header("content-length", "0")
        self.end_headers()

    def log_message(self, *arguments):
        pass


@pytest.fixture
def collector():
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Collector) as server:
        server.received = []
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        yield server
        server.shutdown()
        thread.join()


@pytest.fixture(autouse=True)
def _no_variables(monkeypatch):
    for name in OTEL:
        monkeypatch.delenv(name, raising=False)


async def test_a_collector_receives_the_spans_as_otlp(engine, collector):
    url = f"http://127.0.0.1:{collector.server_port}"
    async with serving(engine, tracing=open_tracing(url + "/")) as served:
        await served.embed(shade(1), headers=TRACED)
    spans, services = [], set()
    for path, kind, body in collector.received:
        assert (path, kind) == ("/v1/traces", "application/x-protobuf")
        for of_resource in ExportTraceServiceRequest.FromString(body).resource_spans:
            services |= {a.value.string_value for a in of_resource.resource.attributes if a.key == "service.name"}
            spans += [span for scope in of_resource.scope_spans for span in scope.spans]
    assert services == {"bootleg-vision"}
    assert {span.trace_id.hex() for span in spans} == {CALLER}
    assert {f"POST {EMBEDDINGS}", "batch", "decode", "infer"} <= {span.name for span in spans}


async def test_the_name_of_the_service_is_the_variables_if_they_give_one(engine, collector, monkeypatch):
    monkeypatch.setenv("OTEL_SERVICE_NAME", "embedder")
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", f"http://127.0.0.1:{collector.server_port}")
    async with serving(engine, tracing=cli._tracing(None)) as served:
        await served.embed(shade(1))
    assert collector.received[0][0] == "/v1/traces"
    assert b"embedder" in collector.received[0][2]


def test_a_collector_that_is_not_there_delays_nobody(monkeypatch):
    """Spans are sent by a thread; what cannot be sent is lost, with a line in the log."""
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_TIMEOUT", "1")

    async def main(engine, tracing):
        async with serving(engine, tracing=tracing) as served:
            return (await served.embed(shade(1))).status_code

    assert asyncio.run(main(FakeEngine(), open_tracing("http://127.0.0.1:9"))) == 200


@pytest.mark.parametrize("endpoint", ["localhost:4318", "ftp://x", "grpc://x:4317"])
def test_an_endpoint_that_is_no_url_is_refused_by_the_name_of_its_option(endpoint):
    with pytest.raises(StartupError, match=f"--otel-endpoint '{endpoint}'"):
        open_tracing(endpoint)


def test_another_protocol_is_refused_by_the_name_of_its_variable(monkeypatch):
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc")
    with pytest.raises(StartupError, match=r"OTEL_EXPORTER_OTLP_PROTOCOL = 'grpc'"):
        cli._tracing("http://localhost:4318")


@pytest.mark.parametrize(
    "variables",
    [
        {},
        {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://x:4318", "OTEL_SDK_DISABLED": "true"},
        {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://x:4318", "OTEL_TRACES_EXPORTER": "none"},
    ],
)
def test_there_are_no_traces_unless_somebody_asks(monkeypatch, variables):
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert cli._tracing(None) is None


def test_without_the_extra_the_message_says_what_to_install(monkeypatch):
    monkeypatch.delitem(sys.modules, "bootleg_service.telemetry.otel")
    monkeypatch.setitem(sys.modules, "opentelemetry.exporter.otlp.proto.http.trace_exporter", None)
    with pytest.raises(StartupError, match=r"pip install 'bootleg-vision\[otel\]'"):
        cli._tracing("http://localhost:4318")


def test_without_the_extra_the_application_is_there_all_the_same():
    code = "import sys; sys.modules |= {'opentelemetry.sdk': None, 'opentelemetry.exporter': None}; "
    code += "import bootleg_service.app, bootleg_service.cli"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 0, done.stderr


async def test_the_frameworks_own_telemetry_stays_off(engine, collector, monkeypatch):
    """It would log the input of requests that do not fit their route."""
    monkeypatch.setenv("FASTAPI_OTEL_AUTO_CONFIGURE", "true")
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", f"http://127.0.0.1:{collector.server_port}")
    async with serving(engine) as served:
        assert (await served.embed(shade(1), params={"dtype": "nonsense"})).status_code == 400
        assert not served.app._native_telemetry.enabled()
    assert collector.received == []
