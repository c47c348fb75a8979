"""``bootleg serve``. Composes the settings from options and ``BOOTLEG_*`` variables, and runs uvicorn."""

from __future__ import annotations

import os
import shlex
import socket
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from bootleg_bundle import default_bundle_path, open_bundle
from bootleg_bundle.engine_cache import default_engine_cache
from bootleg_bundle.engine_key import BATCHES, parse_batches
from bootleg_bundle.images import ImageLimits
from bootleg_service.errors import StartupError
from bootleg_service.options import chosen, limit_options
from bootleg_service.options import setting as _setting
from bootleg_service.settings import (
    AccessSettings,
    BatchSettings,
    CacheSettings,
    DecodeSettings,
    EngineSettings,
    LifecycleSettings,
    MaskSettings,
    RequestLimits,
    Settings,
)

if TYPE_CHECKING:
    from bootleg_service.telemetry.endings import Tracing
    from bootleg_service.telemetry.logs import LogFormat

EXAMPLE_IMAGE = Path(__file__).with_name("example.jpg")
LOOPBACK = ("127.0.0.1", "localhost")


@click.command(context_settings={"show_default": True})
@_setting(
    "--bundle",
    "bundles",
    multiple=True,
    type=click.Path(path_type=Path, file_okay=False),
    help="Repeat it for several models, the first one the default; in the variable, separated as in PATH.  "
    "[default: the shipped one]",
)
@_setting(
    "--host",
    default="127.0.0.1",
)
@_setting(
    "--port",
    type=click.IntRange(0, 65_535),
    default=8000,
)
@_setting(
    "--device",
    type=click.Choice(["auto", "cpu", "cuda", "tensorrt"]),
    default="auto",
)
@_setting("--precision", default="auto", help="One of the bundle's graphs; auto: fp16 on a GPU if there, else fp32.")
@_setting(
    "--threads",
    type=click.IntRange(0),
    default=0,
    help="Of ONNX Runtime; 0: one per core.",
)
@_setting(
    "--engine-cache",
    type=click.Path(path_type=Path, file_okay=False),
    default=default_engine_cache,
    show_default="~/.cache/bootleg-vision/engines",
    help="Where `bootleg engine` put TensorRT engines.",
)
@_setting(
    "--gpu-memory-bytes", type=click.IntRange(0), default=0, help="Of ONNX Runtime, for each model and head; 0: all."
)
@_setting("--tensorrt-batches", default=",".join(map(str, BATCHES)), help="As given to `bootleg engine`.")
@_setting("--max-batch", type=click.IntRange(1, 4096), default=8, help="Images.")
@_setting(
    "--decode-threads",
    type=click.IntRange(1, 256),
    default=2,
)
@_setting(
    "--api-keys",
    type=click.Path(path_type=Path, dir_okay=False),
    help="File of hashed API keys; `bootleg key` makes them.  [default: everybody may ask]",
)
@_setting(
    "--admin-keys",
    type=click.Path(path_type=Path, dir_okay=False),
    help="File of operators' keys, hashed; opens /admin/reload for them.  [default: no such route]",
)
@_setting("--documents/--no-documents", default=None, help="Show /docs.  [default: only without API keys]")
@_setting("--page/--no-page", default=True, help="Show the page at /; it holds nothing, and asks for a key.")
@_setting("--redis-url", help="Share the cache through Redis.")
@_setting(
    "--cache-bytes",
    type=click.IntRange(0),
    default=64 * 2**20,
    help="In-process cache; responses take up to a quarter as much again.",
)
@_setting(
    "--max-image-bytes",
    type=click.IntRange(1),
    default=10 * 2**20,
    help="Encoded.",
)
@_setting(
    "--max-image-pixels",
    type=click.IntRange(1),
    default=50_000_000,
)
@_setting(
    "--max-images",
    type=click.IntRange(1, 4096),
    default=32,
    help="Of a request.",
)
@_setting(
    "--request-seconds",
    type=click.FloatRange(0.1),
    default=10.0,
    help="From a body's end to its answer.",
)
@_setting(
    "--stall-seconds",
    type=click.FloatRange(0.1),
    default=30.0,
    help="After which a call of the model is stuck and /health/live red.",
)
@_setting(
    "--drain-grace-seconds",
    type=click.FloatRange(0),
    default=5.0,
    help="Of serving on after a stop signal, with /health/ready red.",
)
@_setting(
    "--drain-seconds",
    type=click.IntRange(1),
    default=20,
    help="Then, for requests in flight.",
)
@_setting(
    "--log-level",
    type=click.Choice(["debug", "info", "warning"]),
    default="info",
)
@_setting(
    "--log-format",
    type=click.Choice(["auto", "text", "json"]),
    default="auto",
    help="auto: text on a terminal, else JSON.",
)
@_setting("--otel-endpoint", help="Send traces to this collector: OTLP over HTTP, such as http://localhost:4318.")
@limit_options
def serve(  # noqa: PLR0913  # one argument an option
    *,
    bundles: tuple[Path, ...],
    host: str,
    port: int,
    device: str,
    precision: str,
    threads: int,
    engine_cache: Path,
    tensorrt_batches: str,
    max_batch: int,
    decode_threads: int,
    gpu_memory_bytes: int,
    api_keys: Path | None,
    admin_keys: Path | None,
    documents: bool | None,
    page: bool,
    redis_url: str | None,
    cache_bytes: int,
    max_image_bytes: int,
    max_image_pixels: int,
    max_images: int,
    request_seconds: float,
    stall_seconds: float,
    drain_grace_seconds: float,
    drain_seconds: int,
    log_level: str,
    log_format: LogFormat,
    otel_endpoint: str | None,
    **limits: Any,
) -> None:
    """Serve a bundle over HTTP, or several."""
    import prometheus_client

    from bootleg_service import gc_freeze, lifecycle
    from bootleg_service.app import create_app
    from bootleg_service.guarded_protocol import guarded
    from bootleg_service.telemetry.logs import configure

    more = chosen(limits)
    _check_port(host, port)
    for_people = configure(log_level, log_format)
    # A second series for each counter, which nothing here reads.
    prometheus_client.disable_created_metrics()  # type: ignore[no-untyped-call]
    settings = Settings(
        limits=RequestLimits(
            image=ImageLimits(max_bytes=max_image_bytes, max_pixels=max_image_pixels),
            max_images=max_images,
            request_seconds=request_seconds,
            **more["limits"],
        ),
        batch=BatchSettings(max_batch=max_batch, stall_seconds=stall_seconds, **more["batch"]),
        decode=DecodeSettings(threads=decode_threads, **more["decode"]),
        masks=MaskSettings(**more["masks"]),
        cache=CacheSettings(memory_bytes=cache_bytes, redis_url=redis_url),
        engine=EngineSettings.model_validate(
            {
                "device": device,
                "precision": precision,
                "threads": threads,
                "engine_cache": engine_cache,
                "tensorrt_batches": parse_batches(tensorrt_batches),
                "gpu_memory_bytes": gpu_memory_bytes,
            }
        ),
        access=AccessSettings(
            keys_file=api_keys,
            admin_keys_file=admin_keys,
            show_documents=documents,
            show_page=page,
            **more["access"],
        ),
        lifecycle=LifecycleSettings(grace_seconds=drain_grace_seconds, drain_seconds=drain_seconds),
    )
    failed: list[BaseException] = []

    def started(error: BaseException | None) -> None:
        if error is not None:
            failed.append(error)
            server.should_exit = True
            return
        gc_freeze.freeze()
        if for_people and host in LOOPBACK:  # elsewhere the caller is another machine, without our example
            click.echo(f"try it:\n\n  {curl_line(host, port)}\n", err=True)
            if page:
                click.echo(f"or drop images into the page at http://{host}:{port}/\n", err=True)

    tracing = _tracing(otel_endpoint)
    opened = [open_bundle(path) for path in bundles or (default_bundle_path(),)]
    app = create_app(opened, settings, on_fatal=lifecycle.give_up, on_started=started, tracing=tracing)
    server = lifecycle.Server(
        app,
        settings.lifecycle,
        host=host,
        port=port,
        log_config=None,  # its loggers' lines go where all others go
        access_log=False,
        server_header=False,
        http=guarded(settings.limits, app.state.metrics),
        ws="none",
        # uvicorn would believe a header from this machine, and a variable of its own.
        proxy_headers=bool(settings.access.trusted_proxies),
        forwarded_allow_ips=list(settings.access.trusted_proxies),
    )
    server.serve_to_the_end()
    if failed:
        raise failed[0]


def _tracing(endpoint: str | None) -> Tracing | None:
    """Traces, if the option or OpenTelemetry's own variables ask for them.

    Raises:
        StartupError: they do, and cannot be had.
    """
    said = os.environ.get
    off = said("OTEL_SDK_DISABLED", "").lower() == "true" or said("OTEL_TRACES_EXPORTER") == "none"
    asked = [endpoint, said("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT"), said("OTEL_EXPORTER_OTLP_ENDPOINT")]
    if off or not any(asked):
        return None
    try:
        from bootleg_service.telemetry.otel import open_tracing
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] != "opentelemetry":
            raise
        raise StartupError("traces need OpenTelemetry: pip install 'bootleg-vision[otel]'") from error
    protocol = said("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL") or said("OTEL_EXPORTER_OTLP_PROTOCOL")
    return open_tracing(endpoint or None, protocol)


@click.command()
@click.argument("name")
def key(name: str) -> None:
    """Make an API key for the service.

    Prints the key, and below it the line that the file of --api-keys needs: a name and a hash.
    """
    from bootleg_service.access.keys import new_key

    token, line = new_key(name)
    click.echo(token)
    click.echo(line)


def _check_port(host: str, port: int) -> None:
    """Find out that a port is taken before the model is loaded and anything is announced."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            reason = error.strerror or "it cannot be bound"
            raise StartupError(f"port {port} on {host}: {reason}; choose another with --port") from error


def curl_line(host: str, port: int) -> str:
    """A command that embeds the example photograph."""
    try:
        path = EXAMPLE_IMAGE.relative_to(Path.cwd())
    except ValueError:
        path = EXAMPLE_IMAGE
    return f"curl -s --data-binary {shlex.quote(f'@{path}')} http://{host}:{port}/v1/images/embeddings"
