"""What one actor does: open its source and its engine once, then compute the parts it is handed, one after another.

Images never travel between machines: a worker reads what it embeds, and writes what it computed. Only numbers of parts
and counts go through the cluster. It knows nothing of Ray.
"""

from __future__ import annotations

import math
import socket
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from bootleg_bundle.errors import BootlegError, DataError
from bootleg_bundle.sources import open_source
from bootleg_bundle.sources.base import listing_fingerprint
from bootleg_embed.local import LocalBackend
from bootleg_embed.parts.part import PartWriter, attempts, count_part
from bootleg_embed.parts.partition import Excerpt
from bootleg_embed.run import Options, run

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from numpy.typing import NDArray

    from bootleg_bundle.sources import Source
    from bootleg_embed.backend import Backend, Output
    from bootleg_embed.parts.plan import Plan
    from bootleg_embed.run import Ids

MAX_ATTEMPTS = 5
"""At one part, that died without a word."""


class Wanted(NamedTuple):
    """What is computed of each image, how many at a time, and by how many threads they are read and decoded."""

    output: Output
    dtype: str
    ids: Ids
    part_images: int
    batch: int
    threads: int


@dataclass(frozen=True)
class Job:
    """What every worker is told; paths mean the same on every machine.

    Attributes:
        source: as ``open_source`` takes it.
        folder: where parts go.
        plan: of the run.
        bundle: its directory; the shipped one when None.
        engine: fields of the service's ``EngineSettings``.
        wanted: of each image.
    """

    source: str
    folder: Path
    plan: Plan
    bundle: Path | None
    engine: dict[str, Any]
    wanted: Wanted


class PartEmbedder:
    """Takes a part's number and listing, gives the number and its failures, or why it cannot be.

    What is our own refusal comes back as a row: it would be the same on a retry, and an exception loses its words on
    the way.
    """

    def __init__(self, job: Job) -> None:
        self._job = job
        self._opened: tuple[Source, Backend] | None = None

    def __call__(self, tasks: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
        """One row a part: ``part``, ``failed``, ``fault`` (empty when there is none)."""
        failed, faults = [], []
        for part, listing in zip(tasks["part"].tolist(), tasks["listing"].tolist(), strict=True):
            try:
                failed.append(self.embed(part, listing))
                faults.append("")
            except (BootlegError, OSError) as error:
                failed.append(0)
                faults.append(f"part {part} on {socket.gethostname()}: {error}")
        return {"part": tasks["part"], "failed": np.array(failed, np.int64), "fault": np.array(faults, object)}

    def embed(self, part: int, listing: str) -> int:
        """Compute a part that is not there yet; its failures.

        Raises:
            DataError: this machine sees other images than the driver, or another bundle.
        """
        job = self._job
        numbers, place = job.plan.partition.numbers(part), job.folder / job.plan.partition.name(part)
        if place.exists():  # a task that is tried again after its worker died between writing and answering
            return count_part(place, job.plan.identity, part).failed
        if len(attempts(job.folder, place.name)) >= MAX_ATTEMPTS:
            raise DataError(
                f"{MAX_ATTEMPTS} workers died at images {numbers.start:,} to {numbers.stop - 1:,}; "
                "one of them may take more memory than a worker has"
            )
        with PartWriter(job.folder, job.plan, part) as writer:
            if self._opened is None:
                self._opened = self._open()
            source, backend = self._opened
            excerpt = Excerpt(source, numbers)
            if listing_fingerprint(excerpt) != listing:
                raise DataError(f"{job.source} lists other images or sizes here than where the run was started")
            options = Options(job.wanted.ids, job.wanted.threads, max_corrupt=1.0, commit_seconds=math.inf)
            run(excerpt, backend, writer, options, _Unseen(), lambda: False)
        return writer.journal.failed

    def _open(self) -> tuple[Source, Backend]:
        job, identity = self._job, self._job.plan.identity
        source = open_source(job.source)
        if len(source) != identity.images:
            raise DataError(
                f"{job.source} holds {len(source):,} images here and {identity.images:,} where the run was started"
            )
        backend = LocalBackend(job.bundle, job.engine, job.wanted.output, job.wanted.batch)
        if backend.served.sha256 != identity.model_sha256:
            raise DataError(f"the bundle {backend.served.model} is another one here than where the run was started")
        return source, backend


class _Unseen:
    def update(self, done: int, failed: int) -> None:
        """The driver counts parts."""
