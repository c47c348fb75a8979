"""Ray, and nothing else of it anywhere: join or start a cluster, and hand parts to a pool of actors by Ray Data.

Back-pressure: an actor has one part in work and one waiting; within it, images are read no further ahead than a batch
and the threads. What goes through the object store is a few bytes a part.
A worker that dies is replaced, and its part tried again, by Ray's own defaults: without end, so ``worker.py`` counts.
"""

from __future__ import annotations

import contextlib
import logging
import os
import socket
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

from bootleg_bundle.cores import usable_cores
from bootleg_bundle.errors import ConfigError
from bootleg_bundle.sources.extras import optional

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from bootleg_embed.parts.worker import Job, PartEmbedder

OBJECT_STORE_BYTES = 128 * 2**20
"""Of a cluster that is started here; Ray would take 30 % of the memory for what are numbers of parts."""
CONNECT_SECONDS = 5.0
MAX_BLOCKS = 10_000
"""Tasks that Ray Data keeps account of; with more parts than that, a task is several parts."""


@dataclass(frozen=True)
class Pool:
    """Actors, one engine each.

    Attributes:
        address: HOST:PORT of a cluster, or ``auto``; None starts one on this machine.
        workers: how many; 0 for as many as the cluster has room for.
        cpus: of each.
        gpus: of each; a fraction shares one.
    """

    address: str | None = None
    workers: int = 0
    cpus: int = 1
    gpus: float = 0.0


class Answer(NamedTuple):
    """Of one part: its failures, or why it cannot be computed."""

    part: int
    failed: int
    fault: str


class ClusterLostError(Exception):
    """Ray gave up; what was computed is kept, and the same command goes on."""


def library() -> tuple[Any, Any]:
    """Ray and Ray Data, asked for before anything is read.

    Raises:
        DataError: they are not installed.
    """
    return optional("ray", "ray", "--engine ray"), optional("ray.data", "ray", "--engine ray")


@contextlib.contextmanager
def connected(pool: Pool) -> Iterator[Any]:
    """Ray, joined to a cluster until the end of the block.

    Raises:
        ConfigError: no cluster answers at the address, or none can be started.
    """
    ray, _ = library()
    with contextlib.redirect_stdout(sys.stderr):  # Ray prints what became of its workers, to its very end
        _join(ray, pool)
        try:
            yield ray
        finally:
            ray.shutdown()


def size(ray: Any, pool: Pool) -> int:
    """Workers of a pool.

    Raises:
        ConfigError: the cluster has no room for even one.
    """
    there = ray.cluster_resources()
    room = int(there.get("CPU", 0) // pool.cpus)
    if pool.gpus:
        room = min(room, int(there.get("GPU", 0) / pool.gpus))
    if room < 1:
        raise ConfigError(
            f"--cpus-per-worker {pool.cpus} and --gpus-per-worker {pool.gpus:g}: the cluster has "
            f"{there.get('CPU', 0):g} CPUs and {there.get('GPU', 0):g} GPUs"
        )
    return pool.workers or room


def embed_parts(
    job: Job,
    tasks: Sequence[tuple[int, str]],
    pool: Pool,
    workers: int,
    embedder: type[PartEmbedder],
) -> Iterator[Answer]:
    """Have parts computed; answers come as they are ready, in any order.

    Args:
        job: for every worker.
        tasks: number and listing of each part.
        pool: what a worker takes.
        workers: how many.
        embedder: what an actor is.

    Raises:
        ClusterLostError: a part cannot be computed, or the cluster is gone.
    """
    ray, data = library()
    logging.getLogger("ray.data").setLevel(logging.ERROR)
    context = data.DataContext.get_current()
    context.enable_progress_bars = context.print_on_execution_start = False
    parts = data.from_items(
        [{"part": part, "listing": listing} for part, listing in tasks],
        override_num_blocks=min(len(tasks), MAX_BLOCKS),
    )
    answers = parts.map_batches(
        embedder,
        batch_size=1,
        batch_format="numpy",
        fn_constructor_args=(job,),
        compute=data.ActorPoolStrategy(size=workers, max_tasks_in_flight_per_actor=2),
        num_cpus=pool.cpus,
        num_gpus=pool.gpus,
    )
    try:
        for row in answers.iter_rows():
            yield Answer(int(row["part"]), int(row["failed"]), str(row["fault"]))
    except ray.exceptions.RayError as error:
        raise ClusterLostError(type(error).__name__) from error


def _join(ray: Any, pool: Pool) -> None:
    quiet: dict[str, Any] = {"logging_level": logging.ERROR, "log_to_driver": False, "configure_logging": False}
    faults = (OSError, RuntimeError, ValueError, ray.exceptions.RayError)
    if pool.address is not None:
        _reach(pool.address)
        try:
            ray.init(pool.address, **quiet)
        except faults as error:
            raise ConfigError(
                f"--ray-address {pool.address}: no Ray cluster answers there, or one with another token "
                f"(RAY_AUTH_MODE), or of another version of Ray or Python than here ({ray.__version__})"
            ) from error
        return
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # else starting a cluster reports to Ray's makers
    cpus = max(usable_cores(), pool.workers * pool.cpus)
    started = {"num_cpus": cpus, "object_store_memory": OBJECT_STORE_BYTES, "include_dashboard": False}
    try:
        ray.init("local", **started, **quiet)
    except faults as error:
        raise ConfigError(
            f"--engine ray: no cluster can be started here: {type(error).__name__}; Ray's logs are in /tmp/ray"
        ) from error


def _reach(address: str) -> None:
    """Ray itself asks an address where nothing listens for minutes.

    Raises:
        ConfigError: it is no address of a cluster, or nothing listens there.
    """
    if address == "auto":
        return
    host, _, port = address.rpartition(":")
    if not host or not port.isdecimal() or "/" in host:
        raise ConfigError(f"--ray-address {address}: give HOST:PORT or auto, on a machine of the cluster")
    try:
        socket.create_connection((host, int(port)), timeout=CONNECT_SECONDS).close()
    except (OSError, OverflowError) as error:
        raise ConfigError(f"--ray-address {address}: nothing listens there") from error
