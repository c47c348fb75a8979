"""Stopping a run on request: the first SIGTERM or SIGINT becomes a flag, which the loop reads between two steps."""

from __future__ import annotations

import signal
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from types import FrameType

INTERRUPTED = 75
"""Exit code of a run that was asked to stop and saved its state (EX_TEMPFAIL): start it again to go on."""


class Interrupted(Exception):  # noqa: N818  # not an error: the state is saved
    """The run was asked to stop and saved its state."""


class StopOnSignal:
    """Turns the first SIGTERM or SIGINT into a flag; a second one acts as usual.

    Attributes:
        asked: whether one arrived.
    """

    def __init__(self) -> None:
        self.asked = False
        self._previous: dict[int, object] = {}

    def __enter__(self) -> None:
        for number in (signal.SIGTERM, signal.SIGINT):
            self._previous[number] = signal.signal(number, self._ask)

    def _ask(self, number: int, frame: FrameType | None) -> None:  # noqa: ARG002
        self.asked = True
        signal.signal(number, self._previous[number])  # type: ignore[arg-type]

    def __exit__(self, *_: object) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)  # type: ignore[arg-type]
