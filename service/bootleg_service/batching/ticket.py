"""Whose image it is, how urgent, and until when: what a request tells the scheduler."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Lane = Literal["interactive", "bulk"]


@dataclass(frozen=True)
class Ticket:
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
