"""``bootleg embed``. Composes a run from its options, and turns its end into a line and an exit code."""

from __future__ import annotations

import contextlib
import signal
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from bootleg_bundle.cores import usable_cores
from bootleg_bundle.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from bootleg_bundle.sources import Source
    from bootleg_embed.backend import Backend, Output
    from bootleg_embed.journal import Identity, Journal
    from bootleg_embed.run import Ids, Options

SOME_FAILED = 3
STOPPED = 75
"""EX_TEMPFAIL: everything computed is kept, and the same command goes on from there."""

PART_IMAGES = 8192
"""A worker that dies loses as much: minutes of a core. Parts are tens of megabytes."""


@click.command(context_settings={"show_default": True})
@click.argument("source")
@click.option(
    "--out", type=click.Path(path_type=Path), required=True, help="OUT.npy, OUT.parquet, or a folder to create."
)
@click.option("--url", help="Ask a running service instead of computing here.")
@click.option("--api-key", envvar="BOOTLEG_API_KEY", show_envvar=True, help="Of the service.")
@click.option("--wait-seconds", type=click.FloatRange(1), default=300.0, help="A service may be away for so long.")
@click.option("--bundle", type=click.Path(path_type=Path, file_okay=False), help="[default: the shipped one]")
@click.option("--device", type=click.Choice(["auto", "cpu", "cuda", "tensorrt"]), default="auto")
@click.option("--precision", default="auto", help="One of the bundle's graphs.")
@click.option("--threads", type=click.IntRange(0), default=0, help="Of ONNX Runtime; 0: one per core.")
@click.option("--decode-threads", type=click.IntRange(0, 256), default=0, help="0: one per core.")
@click.option("--batch", type=click.IntRange(1, 4096), default=32, help="Images of one forward pass.")
@click.option("--output", type=click.Choice(["embedding", "layers", "patches"]), default="embedding")
@click.option("--dtype", type=click.Choice(["float32", "float16"]), default="float32")
@click.option("--ids", type=click.Choice(["path", "name", "hash"]), default="path", help="What an image is called.")
@click.option(
    "--max-corrupt", type=click.FloatRange(0, 1), default=0.05, help="Stop when a larger share of the images fails."
)
@click.option(
    "--engine", type=click.Choice(["local", "ray"]), default="local", help="ray: a cluster, a folder of parts."
)
@click.option("--ray-address", help="HOST:PORT of a cluster, or auto. [default: a cluster on this machine]")
@click.option("--workers", type=click.IntRange(1), help="Of the cluster. [default: as many as it has room for]")
@click.option("--cpus-per-worker", type=click.IntRange(1), help="[default: 1]")
@click.option("--gpus-per-worker", type=click.FloatRange(0), help="[default: 0]")
@click.option("--part-images", type=click.IntRange(1), help="Images of a part. [default: 8192]")
def embed(  # noqa: PLR0913  # one argument an option
    *,
    source: str,
    out: Path,
    url: str | None,
    api_key: str | None,
    wait_seconds: float,
    bundle: Path | None,
    device: str,
    precision: str,
    threads: int,
    decode_threads: int,
    batch: int,
    output: Output,
    dtype: str,
    ids: Ids,
    max_corrupt: float,
    engine: str,
    **spread: Any,
) -> None:
    """Embed a whole data set into one file, resumable at any moment.

    SOURCE is a folder of images, nested to any depth; tar archives (one, a folder of them, or a quoted pattern such as
    'shards/{000..127}.tar'); a .csv, .tsv, .txt or .parquet list with a column of paths; or a .parquet file with a
    column of encoded images.

    With --engine ray the images are spread over the workers of a Ray cluster, and OUT is a folder of parquet parts.

    Run the same command again after a stop or a crash, and it goes on. Exit codes: 0 all images embedded; 3 done, but
    some images failed; 75 stopped by SIGTERM or Ctrl-C, or the service stayed away; 2 refused.
    """
    from bootleg_bundle.sources import open_source
    from bootleg_embed.run import Options

    if url is not None and bundle is not None:
        raise ConfigError("--bundle and --url: the service has its own bundle; give one of the two")
    settings: dict[str, Any] = {"device": device, "precision": precision, "threads": threads}
    if engine == "ray":
        if url is not None:
            raise ConfigError("--url and --engine ray: a service is scaled by its replicas; give one of the two")
        what = {"output": output, "dtype": dtype, "ids": ids, "batch": batch, "threads": decode_threads}
        if not _over_cluster(source, out, bundle, settings, what, spread, max_corrupt=max_corrupt):
            sys.exit(SOME_FAILED)
        return
    if given := [name for name, value in spread.items() if value is not None]:
        raise ConfigError(f"--{given[0].replace('_', '-')} {spread[given[0]]}: only with --engine ray")
    if url is not None:
        open_backend = _remote(url, api_key, output, wait_seconds)
    else:
        open_backend = _local(bundle, settings, output, batch)
    options = Options(ids=ids, threads=decode_threads or usable_cores(), max_corrupt=max_corrupt)
    with contextlib.ExitStack() as held:
        images = open_source(source)
        stop = held.enter_context(_stopped_by_signals())
        try:
            backend = open_backend()
            held.callback(backend.close)
            complete, journal, seconds, done = _work(images, backend, out, options, stop, output=output, dtype=dtype)
        except ConfigError:
            raise
        except Exception as error:
            if not _may_pass(error):
                raise
            click.echo(f"stopped: {error}; run the same command again to go on", err=True)
            sys.exit(STOPPED)
    _say_and_exit(out, journal, seconds, done, complete=complete)


def _work(
    images: Source,
    backend: Backend,
    out: Path,
    options: Options,
    stop: Callable[[], bool],
    *,
    output: str,
    dtype: str,
) -> tuple[bool, Journal, float, int]:
    """Whether all is done, the journal, and this run's seconds and images."""
    from bootleg_embed import parquet
    from bootleg_embed.output import finish, finished, layout
    from bootleg_embed.progress import meter
    from bootleg_embed.run import run
    from bootleg_embed.store import Store

    places = layout(out)
    if out.suffix == ".parquet":
        parquet.arrow()
    identity = _identity(images, backend, options, output, dtype)
    record = finished(places, identity)
    if record is not None:
        return True, record, 0.0, 0
    begun = time.monotonic()
    store = Store(places.partial, identity)
    before = store.journal.done
    try:
        if before:
            click.echo(f"{places.partial}: going on after {before:,} of {len(images):,} images", err=True)
        with meter(len(images), before) as shown:
            complete = run(images, backend, store, options, shown, stop)
        if complete:
            finish(store, places)
    finally:
        store.close()
    return complete, store.journal, time.monotonic() - begun, store.journal.done - before


def _identity(images: Source, backend: Backend, options: Options, output: str, dtype: str) -> Identity:
    from bootleg_bundle.sources.base import listing_fingerprint
    from bootleg_embed.journal import Identity

    served = backend.served
    return Identity(
        source=listing_fingerprint(images),
        images=len(images),
        output=output,
        dtype=dtype,
        ids=options.ids,
        model=served.model,
        model_sha256=served.sha256,
        embedding_space=served.space,
        row=served.row,
    )


def _say_and_exit(out: Path, journal: Journal, seconds: float, done: int, *, complete: bool) -> None:
    total, failed = journal.identity.images, journal.failed
    if not complete:
        click.echo(f"stopped after {journal.done:,} of {total:,} images; run the same command again to go on", err=True)
        sys.exit(STOPPED)
    speed = f"{seconds:.1f} s, {done / seconds:.1f} images/s" if done else "complete already"
    click.echo(f"{out}: {total:,} rows, {failed:,} failed, {speed}")
    if failed:
        sys.exit(SOME_FAILED)


def _over_cluster(
    source: str,
    out: Path,
    bundle: Path | None,
    settings: dict[str, Any],
    what: dict[str, Any],
    spread: dict[str, Any],
    *,
    max_corrupt: float,
) -> bool:
    """Whether every image has a row."""
    from bootleg_embed.parts.cluster import Pool, library

    library()
    from bootleg_embed.parts.cli import compose, embed_over_cluster
    from bootleg_embed.parts.worker import Wanted

    cpus, gpus = spread["cpus_per_worker"] or 1, spread["gpus_per_worker"] or 0.0
    pool = Pool(spread["ray_address"], spread["workers"] or 0, cpus, gpus)
    settings["threads"] = settings["threads"] or cpus
    if gpus and settings["device"] == "auto":
        settings["device"] = "cuda"  # a GPU that was asked for and cannot be had is an error, not a slow run
    what["threads"] = what["threads"] or cpus
    wanted = Wanted(**what, part_images=spread["part_images"] or PART_IMAGES)
    job, images, fingerprints = compose(source, out, bundle, settings, wanted)
    return embed_over_cluster(job, pool, images, fingerprints, max_corrupt)


def _local(bundle: Path | None, engine: dict[str, Any], output: Output, batch: int) -> Callable[[], Backend]:
    from bootleg_embed.local import LocalBackend

    return lambda: LocalBackend(bundle, engine, output, batch)


def _remote(url: str, api_key: str | None, output: Output, wait_seconds: float) -> Callable[[], Backend]:
    try:
        from bootleg_embed.remote import RemoteBackend
    except ModuleNotFoundError as error:
        if error.name != "httpx":
            raise
        raise ConfigError("--url needs httpx: pip install 'bootleg-vision[client]'") from error
    return lambda: RemoteBackend(url, api_key, output, wait_seconds)


def _may_pass(error: Exception) -> bool:
    """Whether the same command may succeed later: the service is away or has too much to do."""
    client = sys.modules.get("bootleg_client")
    return client is not None and isinstance(
        error, (client.ConnectionLostError, client.CallDeadlineError, client.OverloadedError)
    )


@contextlib.contextmanager
def _stopped_by_signals() -> Iterator[Callable[[], bool]]:
    """Whether SIGTERM or Ctrl-C came; the second Ctrl-C is as abrupt as ever."""
    asked: list[int] = []

    def ask(number: int, _frame: object) -> None:
        if asked and number == signal.SIGINT:
            raise KeyboardInterrupt
        asked.append(number)

    previous = {number: signal.signal(number, ask) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield lambda: bool(asked)
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
