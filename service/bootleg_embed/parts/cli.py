"""``bootleg embed --engine ray``: composes a run over a cluster, and turns its end into a line and an exit code."""

from __future__ import annotations

import hashlib
import os
import signal
import sys
import time
from typing import TYPE_CHECKING, Any

import click

from bootleg_bundle import default_bundle_path, open_bundle
from bootleg_bundle.errors import ConfigError
from bootleg_bundle.sources import open_source
from bootleg_bundle.sources.hub import PREFIX
from bootleg_embed import parquet
from bootleg_embed.journal import Identity
from bootleg_embed.local import served_by
from bootleg_embed.parts.cluster import ClusterLostError
from bootleg_embed.parts.drive import drive
from bootleg_embed.parts.partition import Partition, listings
from bootleg_embed.parts.plan import Plan
from bootleg_embed.parts.worker import Job, PartEmbedder
from bootleg_embed.progress import meter

if TYPE_CHECKING:
    import contextlib
    from collections.abc import Sequence
    from pathlib import Path

    from bootleg_bundle.sources import Source
    from bootleg_embed.parts.cluster import Pool
    from bootleg_embed.parts.worker import Wanted
    from bootleg_embed.progress import Meter


def compose(
    source: str, out: Path, bundle: Path | None, engine: dict[str, Any], wanted: Wanted
) -> tuple[Job, Source, Sequence[str]]:
    """The job, its source, and each part's fingerprint.

    Raises:
        ConfigError: an ``--out`` that is no folder, or parts that are no whole batches.
        BundleError: the bundle cannot be read.
        DataError: the source cannot be read.
    """
    if out.suffix in {".npy", ".parquet"}:
        raise ConfigError(f"--out {out}: --engine ray writes a folder of parts; leave the {out.suffix} away")
    part_images, batch = wanted.part_images, wanted.batch
    if part_images % batch:
        whole = max(batch, part_images - part_images % batch)
        raise ConfigError(f"--part-images {part_images} is no multiple of --batch {batch}; {whole} is")
    parquet.arrow()
    if not source.startswith(PREFIX):
        source = os.path.abspath(source)  # noqa: PTH100  # a pattern is no path
    images = open_source(source)
    partition = Partition(len(images), part_images)
    fingerprints = listings(images, partition)
    served = served_by(open_bundle(bundle or default_bundle_path()), wanted.output)
    identity = Identity(
        source=hashlib.sha256("\n".join(fingerprints).encode()).hexdigest(),
        images=len(images),
        output=wanted.output,
        dtype=wanted.dtype,
        ids=wanted.ids,
        model=served.model,
        model_sha256=served.sha256,
        embedding_space=served.space,
        row=served.row,
    )
    plan = Plan(identity=identity, part_images=part_images, batch=batch)
    place = None if bundle is None else bundle.absolute()
    return Job(source, out.absolute(), plan, place, engine, wanted), images, fingerprints


def embed_over_cluster(
    job: Job,
    pool: Pool,
    source: Source,
    fingerprints: Sequence[str],
    max_corrupt: float,
    *,
    embedder: type[PartEmbedder] = PartEmbedder,
) -> bool:
    """Run, say the outcome; whether every image has a row. Exits with 75 when it was stopped."""
    from bootleg_embed.cli import STOPPED

    def shown(total: int, done: int) -> contextlib.AbstractContextManager[Meter]:
        if done:
            click.echo(f"{job.folder}: going on after {done:,} of {total:,} images", err=True)
        # Ray takes SIGTERM for itself when it starts. Nothing half-written counts, so a signal may cut in anywhere.
        signal.signal(signal.SIGTERM, signal.default_int_handler)
        return meter(total, done)

    begun = time.monotonic()
    try:
        record, computed = drive(
            job, pool, source, fingerprints, max_corrupt=max_corrupt, shown=shown, embedder=embedder
        )
    except (KeyboardInterrupt, ClusterLostError) as error:
        reason = f"the cluster gave up with {error}" if isinstance(error, ClusterLostError) else "told to"
        click.echo(f"stopped: {reason}; run the same command again to go on", err=True)
        sys.exit(STOPPED)
    seconds = time.monotonic() - begun
    speed = f"{seconds:.1f} s, {computed / seconds:.1f} images/s" if computed else "complete already"
    click.echo(f"{job.folder}: {record.rows:,} rows in {record.parts:,} parts, {record.failed:,} failed, {speed}")
    return not record.failed
