"""The loop: read and decode ahead in threads, compute one group after another in order, append, until done or told.

The order is the source's, whatever the threads do. A group is always the same images.
"""

from __future__ import annotations

import hashlib
import time
from collections import deque
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, Protocol, TypeAlias

import numpy as np

from bootleg_bundle.errors import DataError, ImageError
from bootleg_embed.backend import Failure

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
    from concurrent.futures import Future

    from numpy.typing import NDArray

    from bootleg_bundle.sources import Source
    from bootleg_embed.backend import Backend
    from bootleg_embed.journal import Journal
    from bootleg_embed.progress import Meter

Ids: TypeAlias = Literal["path", "name", "hash"]

COMMIT_SECONDS = 2.0
"""Between two entries of the journal: what a kill costs; an entry costs some flushes of the disk."""
COMMIT_BYTES = 64 * 2**20
"""Rows in memory; patch grids are large."""


@dataclass(frozen=True)
class Options:
    """How a run goes; none of it changes a row.

    Attributes:
        ids: what an image is called: its path in the source, the path's last part, or its content's SHA-256.
        threads: that read and decode.
        max_corrupt: share of the images that may fail.
        commit_seconds: between two entries of the journal.
    """

    ids: Ids = "path"
    threads: int = 2
    max_corrupt: float = 0.05
    commit_seconds: float = COMMIT_SECONDS


class Rows(Protocol):
    """Where rows go: ``store.Store``, or one part of many."""

    journal: Journal

    def append(self, ids: Sequence[str], rows: Sequence[NDArray[Any] | Failure], seconds: float) -> None:
        """Write the next rows and count them."""


@dataclass(frozen=True)
class _Loaded:
    name: str
    prepared: Any
    failure: Failure | None = None


def run(
    source: Source, backend: Backend, store: Rows, options: Options, meter: Meter, stop: Callable[[], bool]
) -> bool:
    """Embed what the store's journal does not have yet.

    Returns:
        Whether all is done; False when ``stop`` said so, with everything computed so far appended.

    Raises:
        DataError: more images failed than ``options.max_corrupt`` allows; what was computed is appended.
        ClientError: the service cannot go on; likewise.
    """
    total = len(source)
    begun = time.monotonic()
    names: list[str] = []
    rows: list[NDArray[Any] | Failure] = []

    def commit() -> None:
        nonlocal begun
        if names:
            now = time.monotonic()
            store.append(names, rows, now - begun)
            begun = now
            names.clear()
            rows.clear()

    with ThreadPoolExecutor(options.threads, "bootleg-read") as pool:
        numbers = iter(range(store.journal.done, total))
        depth = backend.group + 2 * options.threads
        loaded = _ahead(pool, lambda number: _load(source, number, backend, options.ids), numbers, depth)
        try:
            for start in range(store.journal.done, total, backend.group):
                if stop():
                    return False
                items = [next(loaded) for _ in range(start, min(start + backend.group, total))]
                rows += _rows(items, backend, store.journal.identity.dtype)
                names += [item.name for item in items]
                failed = store.journal.failed + sum(isinstance(row, Failure) for row in rows)
                meter.update(start + len(items), failed)
                check_share(failed, total, options.max_corrupt, zip(names, rows, strict=True))
                heavy = sum(row.nbytes for row in rows if not isinstance(row, Failure)) > COMMIT_BYTES
                if heavy or time.monotonic() - begun >= options.commit_seconds:
                    commit()
        finally:
            loaded.close()
            commit()
    return True


def _ahead(
    pool: ThreadPoolExecutor, load: Callable[[int], _Loaded], numbers: Iterator[int], depth: int
) -> Generator[_Loaded]:
    """Results in the order of the numbers, ``depth`` of them in work or waiting."""
    waiting: deque[Future[_Loaded]] = deque()
    try:
        for number in numbers:
            waiting.append(pool.submit(load, number))
            if len(waiting) > depth:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:
        for future in waiting:
            future.cancel()


def name_of(source: Source, number: int, ids: str) -> str:
    """What an image is called before it is read; by ``hash``, only until then."""
    path = source.file(number)
    return path.rpartition("/")[2] if ids == "name" else path


def _load(source: Source, number: int, backend: Backend, ids: Ids) -> _Loaded:
    name = name_of(source, number, ids)
    try:
        data = source.read(number)
        if ids == "hash":
            name = hashlib.sha256(data).hexdigest()
        return _Loaded(name, backend.prepare(data))
    except ImageError as error:
        return _Loaded(name, None, Failure(error.code, error.message))
    except OSError as error:
        return _Loaded(name, None, Failure("unreadable", error.strerror or type(error).__name__))


def _rows(items: list[_Loaded], backend: Backend, dtype: str) -> list[NDArray[Any] | Failure]:
    computed = iter(backend.rows([item.prepared for item in items if item.failure is None]))
    return [_checked(next(computed), dtype) if item.failure is None else item.failure for item in items]


def _checked(row: NDArray[Any] | Failure, dtype: str) -> NDArray[Any] | Failure:
    if isinstance(row, Failure):
        return row
    if not np.isfinite(row).all():
        return Failure("engine_error", "the model's answer for this image is not finite")
    with np.errstate(over="ignore"):
        narrow = row.astype(dtype)
    if not np.isfinite(narrow).all():
        return Failure("engine_error", f"the model's answer for this image does not fit {dtype}")
    return narrow


def check_share(
    failed: int, total: int, allowed: float, latest: Iterable[tuple[str, NDArray[Any] | Failure]] = ()
) -> None:
    """Stop as soon as it is certain that too many will have failed.

    Raises:
        DataError: with the first failure of ``latest`` as an example.
    """
    if failed <= allowed * total:
        return
    found = next(((name, row) for name, row in latest if isinstance(row, Failure)), None)
    example = f", such as {found[0]}: {found[1].reason}" if found else ""
    raise DataError(
        f"{failed:,} of {total:,} images failed{example}; --max-corrupt {allowed:g} allows {int(allowed * total):,}. "
        "What was computed is kept: a higher limit goes on from here"
    )
