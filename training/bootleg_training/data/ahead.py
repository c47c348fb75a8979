"""Work in background threads, a bounded number of items ahead, results in the order of the items.

Preparation, decoding and feeding all read through this one function: however slow the consumer, no more
than ``depth`` finished results wait for it.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from concurrent.futures import Executor, Future

T = TypeVar("T")
R = TypeVar("R")


def ahead(pool: Executor, function: Callable[[T], R], items: Iterable[T], *, depth: int) -> Iterator[R]:
    """Yield ``function(item)`` for every item, in order, while ``depth`` further ones are in work.

    An exception of ``function`` is raised where its result would have been; what waits behind it is cancelled,
    as it is when the iterator is closed.
    """
    waiting: deque[Future[R]] = deque()
    try:
        for item in items:
            waiting.append(pool.submit(function, item))
            if len(waiting) > depth:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:
        for future in waiting:
            future.cancel()
