"""Actors that die, or never end, at a part; and what they are told. Workers import them by this module's name."""

from __future__ import annotations

import os
import signal
import time

from bootleg_embed.local import LocalBackend
from bootleg_embed.parts.worker import PartEmbedder, Wanted

PART_IMAGES, BATCH, FATAL = 8, 4, 2
WANTED = Wanted("embedding", "float32", "path", PART_IMAGES, BATCH, 1)
ENGINE = {"device": "cpu", "threads": 1}


def die(*_):
    """As the system's out-of-memory killer does it."""
    os.kill(os.getpid(), signal.SIGKILL)


class Watched(PartEmbedder):
    """Keeps a file for each time that a part is begun."""

    def embed(self, part, listing):
        self.begun = len(list(self._job.folder.parent.glob(f"begun-{part}-*")))
        (self._job.folder.parent / f"begun-{part}-{self.begun}").write_text(str(os.getpid()))
        return super().embed(part, listing)


class DiesWithin(Watched):
    """Killed at the second batch of a part, the first time."""

    def embed(self, part, listing):
        rows = LocalBackend.rows
        calls = iter([rows, die])

        def rows_or_death(backend, prepared):
            return next(calls)(backend, prepared)

        if part == FATAL and not list(self._job.folder.parent.glob(f"begun-{part}-*")):
            LocalBackend.rows = rows_or_death
        try:
            return super().embed(part, listing)
        finally:
            LocalBackend.rows = rows


class DiesAfter(Watched):
    """Killed when the part is in its place and nobody knows yet, the first time."""

    def embed(self, part, listing):
        failed = super().embed(part, listing)
        if part == FATAL and self.begun == 0:
            die()
        return failed


class Stalls(Watched):
    """Never ends with the parts from the fatal one on."""

    def embed(self, part, listing):
        if part >= FATAL:
            time.sleep(3600)
        return super().embed(part, listing)
