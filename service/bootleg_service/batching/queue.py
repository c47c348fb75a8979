"""Who goes next: two lanes, and within a lane every client in turn.

A client with ten thousand images waits behind its own images, not everybody behind them. Bulk images fill the places
that interactive ones leave; those that have waited long get a fixed share of the places besides, so that neither lane
can starve the other. A full queue makes room for who has little in it. The pools and the batcher have one each; it is
never touched from another thread.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from contextvars import Context, copy_context
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any, Generic, Protocol, TypeVar

from bootleg_service.batching.ticket import ANYBODY, Claim, Standing

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable

    import numpy as np
    from numpy.typing import NDArray

    from bootleg_service.batching.ticket import Lane


class Waiting(Protocol):
    """What waits in a queue."""

    answer: asyncio.Future[Any]
    queued: float
    ticket: Claim

    @property
    def nbytes(self) -> int:
        """That it holds."""


T = TypeVar("T", bound=Waiting)


@dataclass(eq=False)
class Item:
    """One image that waits for its answer.

    Attributes:
        pixels: ``[H, W, 3]``.
        output: the encoder's output that is wanted.
        answer: done as soon as nobody waits for it any more.
        queued: when it came, on the event loop's clock.
        ticket: whose it is.
        context: of the request that brought it, for what is recorded of it.
    """

    pixels: NDArray[np.uint8]
    output: str
    answer: asyncio.Future[NDArray[np.float32]]
    queued: float
    ticket: Claim = ANYBODY
    context: Context = field(default_factory=copy_context)

    @property
    def nbytes(self) -> int:
        """Of its pixels."""
        return self.pixels.nbytes


class _Line(Generic[T]):
    """One lane: a deque for each client, the client that is next in front."""

    def __init__(self) -> None:
        self.clients: OrderedDict[str, deque[T]] = OrderedDict()

    def push(self, item: T) -> None:
        self.clients.setdefault(item.ticket.client, deque()).append(item)

    def pop(self) -> T | None:
        if not self.clients:
            return None
        client, waiting = next(iter(self.clients.items()))
        item = waiting.popleft()
        if waiting:
            self.clients.move_to_end(client)
        else:
            del self.clients[client]  # the table never holds more clients than images
        return item

    def remove(self, item: T) -> bool:
        """Whether it was here."""
        for client, waiting in self.clients.items():
            if item in waiting:
                waiting.remove(item)
                if not waiting:
                    del self.clients[client]
                return True
        return False

    def longest(self) -> tuple[str, int]:
        """The client with the most images, and how many; none: 0."""
        return max(((client, len(waiting)) for client, waiting in self.clients.items()), key=_second, default=("", 0))

    @property
    def oldest(self) -> float | None:
        return min((waiting[0].queued for waiting in self.clients.values()), default=None)

    def ahead_of(self, client: str) -> int:
        """Images that go before the next image of ``client``: each client's turn comes as often as this one's."""
        own = len(self.clients.get(client, ()))
        return own + sum(min(len(w), own + 1) for name, w in self.clients.items() if name != client)


class FairQueue(Generic[T]):
    """Images that wait for the device, or for a thread.

    Args:
        bulk_share: of a batch's places, for bulk images that have waited for long, while interactive ones wait too.
        bulk_patience: seconds after which a bulk image has waited for long.
    """

    def __init__(self, *, bulk_share: float, bulk_patience: float) -> None:
        self._share = bulk_share
        self._patience = bulk_patience
        self._lanes: dict[Lane, _Line[T]] = {"interactive": _Line(), "bulk": _Line()}
        self._credit = 0.0
        self._count = 0
        self.bytes = 0

    def __len__(self) -> int:
        return self._count

    def push(self, item: T) -> None:
        """Add an image behind its client's others."""
        self._lanes[item.ticket.lane].push(item)
        self._count += 1
        self.bytes += item.nbytes
        if isinstance(item.ticket, Standing):
            item.ticket.when_urgent = partial(self._promote, item)

    def make_room(self, ticket: Claim) -> T | None:
        """Remove the newest image of whoever has more of them here than ``ticket``'s client would have; None: nobody.

        Bulk images make room for an interactive one, whosever they are.
        """
        quick, bulk = self._lanes["interactive"], self._lanes["bulk"]
        urgent = ticket.lane == "interactive"
        line = bulk if bulk.clients or not urgent else quick
        client, most = line.longest()
        own = len(line.clients.get(ticket.client, ()))
        if not most or (most <= own + 1 and not (urgent and line is bulk)):
            return None
        waiting = line.clients[client]
        item = waiting.pop()
        if not waiting:
            del line.clients[client]
        self._forget(item)
        return item

    def take(self, most: int, now: float, dropped: Callable[[T], None]) -> list[T]:
        """Remove up to ``most`` images whose answer somebody still waits for; the others are handed to ``dropped``."""
        items: list[T] = []
        while self._count and len(items) < most:
            item = self._next(now)
            self._forget(item)
            deadline = item.ticket.deadline
            if item.answer.done() or (deadline is not None and deadline <= now):
                dropped(item)
            else:
                items.append(item)
        return items

    def ahead_of(self, ticket: Claim) -> int:
        """How many images go before the next one with this ticket, those that come later left out."""
        quick, bulk = self._lanes["interactive"], self._lanes["bulk"]
        if ticket.lane == "bulk":
            return bulk.ahead_of(ticket.client) + sum(len(waiting) for waiting in quick.clients.values())
        ahead = quick.ahead_of(ticket.client)
        return ahead + min(sum(len(waiting) for waiting in bulk.clients.values()), round(ahead * self._share))

    def _promote(self, item: T) -> None:
        if self._lanes["bulk"].remove(item):
            self._lanes["interactive"].push(item)

    def _forget(self, item: T) -> None:
        self._count -= 1
        self.bytes -= item.nbytes
        if isinstance(item.ticket, Standing):
            item.ticket.when_urgent = None

    def _next(self, now: float) -> T:
        quick, bulk = self._lanes["interactive"], self._lanes["bulk"]
        if quick.clients and bulk.clients:
            oldest = bulk.oldest
            assert oldest is not None
            aged = now - oldest >= self._patience
            self._credit = min(1.0, self._credit + self._share) if aged else 0.0
            if self._credit >= 1.0:
                self._credit -= 1.0
                line = bulk
            else:
                line = quick
        else:
            line = quick if quick.clients else bulk
        item = line.pop()
        assert item is not None
        return item


def _second(pair: tuple[str, int]) -> int:
    return pair[1]
