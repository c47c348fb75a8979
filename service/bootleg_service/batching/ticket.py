"""Whose image it is, how urgent, and until when: what a request tells the scheduler."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, NamedTuple, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable

Lane = Literal["interactive", "bulk"]


class Claim(Protocol):
    """A :class:`Ticket`, or the :class:`Standing` of several."""

    @property
    def client(self) -> str:
        """Whom the fair share is for."""

    @property
    def lane(self) -> Lane:
        """``bulk`` gives way to ``interactive``."""

    @property
    def deadline(self) -> float | None:
        """On the event loop's clock; None: none."""


class Ticket(NamedTuple):
    """Goes with an image from the route to the batch.

    Attributes:
        client: whom the fair share is for: a key's name or an address; equal for all when nothing is known.
        lane: ``bulk`` gives way to ``interactive``.
        deadline: on the event loop's clock; None: none.
    """

    client: str = ""
    lane: Lane = "interactive"
    deadline: float | None = None


ANYBODY = Ticket()


class Standing:
    """What all who wait for one computation tell the scheduler together, now.

    It is as urgent as the most urgent of them, for that one's account, and worth computing until the last deadline.
    Whoever waits through another computation is here with that one's standing.
    """

    def __init__(self) -> None:
        self._claims: list[Claim] = []
        self.when_urgent: Callable[[], None] | None = None
        """Called when a bulk computation becomes interactive; set by the queue that it waits in."""

    def join(self, claim: Claim) -> None:
        """Wait for it too."""
        bulk = bool(self._claims) and self.lane == "bulk"
        self._claims.append(claim)
        if isinstance(claim, Standing):
            claim.when_urgent = self._hurry
        if bulk and claim.lane == "interactive":
            self._hurry()

    def leave(self, claim: Claim) -> None:
        """Wait no longer."""
        self._claims.remove(claim)

    @property
    def deserted(self) -> bool:
        """Whether nobody waits."""
        return not self._claims

    @property
    def client(self) -> str:
        """Of the first among the most urgent."""
        lane = self.lane
        return next((claim.client for claim in self._claims if claim.lane == lane), "")

    @property
    def lane(self) -> Lane:
        """Of the most urgent."""
        return "interactive" if any(claim.lane == "interactive" for claim in self._claims) else "bulk"

    @property
    def deadline(self) -> float | None:
        """The last one; None while somebody has none."""
        deadlines = [claim.deadline for claim in self._claims]
        found = [deadline for deadline in deadlines if deadline is not None]
        return max(found) if found and len(found) == len(deadlines) else None

    def _hurry(self) -> None:
        if self.when_urgent is not None:
            self.when_urgent()
