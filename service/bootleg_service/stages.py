"""Where a request's time went. Each stage says what it took; the edge puts it into ``Server-Timing``.

A context variable carries the record, as images of one request are decoded and batched in tasks of their own. Of
several images the slowest counts. Work that another request began (the same image, in flight) is not this one's.
"""

from __future__ import annotations

from contextvars import ContextVar
from typing import Final, Literal

Stage = Literal["queue", "decode", "batch", "model", "encode"]

STAGES: Final[tuple[Stage, ...]] = ("queue", "decode", "batch", "model", "encode")
"""Waiting for a decode thread, decoding, waiting for a batch, the forward pass, writing the answer."""

_record: ContextVar[dict[Stage, float] | None] = ContextVar("stages", default=None)


def begin() -> dict[Stage, float]:
    """Start the record of the request that this task serves."""
    record: dict[Stage, float] = {}
    _record.set(record)
    return record


def took(stage: Stage, seconds: float) -> None:
    """Add a stage's time to the record of the request at hand, if there is one."""
    record = _record.get()
    if record is not None:
        record[stage] = max(seconds, record.get(stage, 0.0))


def server_timing(record: dict[Stage, float]) -> str:
    """The header's value, in milliseconds."""
    return ", ".join(f"{stage};dur={1000 * record[stage]:.2f}" for stage in STAGES if stage in record)
