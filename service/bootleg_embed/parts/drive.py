"""The driver's side of a run: which parts are missing, have them computed, count them all."""

from __future__ import annotations

from typing import TYPE_CHECKING

from bootleg_bundle.errors import DataError
from bootleg_embed.backend import Failure
from bootleg_embed.parts.check import check_and_record
from bootleg_embed.parts.cluster import connected, embed_parts, size
from bootleg_embed.parts.part import count_part, read_ids
from bootleg_embed.parts.plan import claimed, missing, recorded
from bootleg_embed.run import check_share

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from contextlib import AbstractContextManager
    from pathlib import Path

    from bootleg_bundle.sources import Source
    from bootleg_embed.parts.cluster import Pool
    from bootleg_embed.parts.plan import Record
    from bootleg_embed.parts.worker import Job, PartEmbedder
    from bootleg_embed.progress import Meter


def drive(
    job: Job,
    pool: Pool,
    source: Source,
    fingerprints: Sequence[str],
    *,
    max_corrupt: float,
    shown: Callable[[int, int], AbstractContextManager[Meter]],
    embedder: type[PartEmbedder],
) -> tuple[Record, int]:
    """Go on with what is there until all of it is.

    Args:
        job: for every worker.
        pool: of workers.
        source: what ``job`` names, opened here.
        fingerprints: of each part's listing.
        max_corrupt: share of the images that may fail.
        shown: a display of so many images, of which so many are there.
        embedder: what an actor is.

    Returns:
        The record, and how many images were computed now.

    Raises:
        DataError: the folder is another run's, a worker refused, a part is damaged, or too many images failed.
        ClusterLostError: Ray gave up; every part that was written is kept.
    """
    folder, plan = job.folder, job.plan
    partition, total = plan.partition, plan.identity.images
    with claimed(folder, plan):
        todo, record = missing(folder, plan), recorded(folder, plan)
        if record is not None and not todo:
            return record, 0
        failed = _failed(job, sorted(set(range(len(partition))) - set(todo)))
        check_share(failed, total, max_corrupt)
        computed = sum(len(partition.numbers(part)) for part in todo)
        done = total - computed
        if todo:
            tasks = [(part, fingerprints[part]) for part in todo]
            with connected(pool) as ray, shown(total, done) as meter:
                for answer in embed_parts(job, tasks, pool, size(ray, pool), embedder):
                    if answer.fault:
                        raise DataError(answer.fault)
                    done, failed = done + len(partition.numbers(answer.part)), failed + answer.failed
                    meter.update(done, failed)
                    check_share(failed, total, max_corrupt, _failures(folder / partition.name(answer.part)))
        return check_and_record(folder, plan, source), computed


def _failed(job: Job, parts: Sequence[int]) -> int:
    partition = job.plan.partition
    return sum(count_part(job.folder / partition.name(part), job.plan.identity, part).failed for part in parts)


def _failures(path: Path) -> Iterator[tuple[str, Failure]]:
    yield from ((name, Failure("", reason)) for name, reason in read_ids(path) if reason is not None)
