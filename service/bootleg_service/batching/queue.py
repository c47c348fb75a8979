"""Who goes next: two lanes, and within a lane every client in turn.

A client with ten thousand images waits behind its own images, not everybody behind them. Bulk images fill the places
that interactive ones leave; those that have waited long get a fixed share of the places besides, so that neither lane
can starve the other. The batcher owns the queue; it is never touched from another thread.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from contextvars import Context, copy_context
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from bootleg_service.batching.ticket import ANYBODY, Ticket

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable

    import numpy as np
    from numpy.typing import NDArray

    from bootleg_service.batching.ticket import Lane


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
    ticket: Ticket = ANYBODY
    context: Context = field(default_factory=copy_context)


@dataclass
class _Line:
    """One lane: a deque for each client, the client that is next in front."""

    clients: OrderedDict[str, deque[Item]] = field(default_factory=OrderedDict)

    def push(self, item: Item) -> None:
        self.clients.setdefault(item.ticket.client, deque()).append(item)

    def pop(self) -> Item | None:
        if not self.clients:
            return None
        client, waiting = next(iter(self.clients.items()))
        item = waiting.popleft()
        if waiting:
            self.clients.move_to_end(client)
        else:
            del self.clients[client]  # the table never holds more clients than images
        return item

    @property
    def oldest(self) -> float | None:
        return min((waiting[0].queued for waiting in self.clients.values()), default=None)

    def ahead_of(self, client: str) -> int:
        """Images that go before the next image of ``client``: each client's turn comes as often as this one's."""
        own = len(self.clients.get(client, ()))
        return own + sum(min(len(w), own + 1) for name, w in self.clients.items() if name != client)


class FairQueue:
    """Images that wait for the device.

    Args:
        bulk_share: of a batch's places, for bulk images that have waited for long, while interactive ones wait too.
        bulk_patience: seconds after which a bulk image has waited for long.
    """

    def __init__(self, *, bulk_share: float, bulk_patience: float) -> None:
        self._share = bulk_share
        self._patience = bulk_patience
        self._lanes: dict[Lane, _Line] = {"interactive": _Line(), "bulk": _Line()}
        self._credit = 0.0
        self._count = 0
        self.bytes = 0

    def __len__(self) -> int:
        return self._count

    def push(self, item: Item) -> None:
        """Add an image behind its client's others."""
        self._lanes[item.ticket.lane].push(item)
        self._count += 1
        self.bytes += item.pixels.nbytes

    def take(self, most: int, now: float, dropped: Callable[[Item], None]) -> list[Item]:
        """Remove up to ``most`` images whose answer somebody still waits for; the others are handed to ``dropped``."""
        items: list[Item] = []
        while self._count and len(items) < most:
            item = self._next(now)
            self._count -= 1
            self.bytes -= item.pixels.nbytes
            deadline = item.ticket.deadline
            if item.answer.done() or (deadline is not None and deadline <= now):
                dropped(item)
            else:
                items.append(item)
        return items

    def ahead_of(self, ticket: Ticket) -> int:
        """How many images go before the next one with this ticket, those that come later left out."""
        quick, bulk = self._lanes["interactive"], self._lanes["bulk"]
        if ticket.lane == "bulk":
            return bulk.ahead_of(ticket.client) + sum(len(waiting) for waiting in quick.clients.values())
        ahead = quick.ahead_of(ticket.client)
        return ahead + min(sum(len(waiting) for waiting in bulk.clients.values()), round(ahead * self._share))

    def _next(self, now: float) -> Item:
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
