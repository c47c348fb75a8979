"""What is known of the request at hand: where its time went, how many images it had, its id and its trace.

A context variable carries the record, as images of one request are decoded and batched in tasks of their own. Each
stage says what it took; the edge puts it into ``Server-Timing``, metrics, the log and, if it is traced, spans. Of
several images the slowest counts. Work that another request began (the same image, in flight) is not this one's.
"""

from __future__ import annotations

import time
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, Literal, Protocol

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from contextvars import Context

Stage = Literal["read", "wait", "decode", "preprocess", "queue", "infer", "mask", "encode"]

STAGES: Final[tuple[Stage, ...]] = ("read", "wait", "decode", "preprocess", "queue", "infer", "mask", "encode")
"""Receiving the body, waiting for a decode thread, decoding, preprocessing, waiting for a batch, the forward pass,
making a mask, writing the answer."""


class Trace(Protocol):
    """A request's trace, which keeps what happened until the request ends.

    Attributes:
        trace_id: 32 hexadecimal digits.
        recording: whether it was sampled; what is not costs nothing more.
    """

    trace_id: str
    recording: bool

    def took(self, stage: Stage, begun: float, ended: float) -> None:
        """Keep a stage; times as of ``time.perf_counter``."""

    def batch(self, requests: Sequence[Trace], seconds: float, about: Mapping[str, int]) -> None:
        """Keep the batch that has just run for ``requests``, of which this is one."""


@dataclass(slots=True)
class Record:
    """One request.

    Attributes:
        request_id: also in its answer.
        trace: None when requests are not traced.
        seconds: by stage.
        images: answered or refused, one by one; hits: from the cache.
        received: bytes of its body; sent: of its answer's.
    """

    request_id: str = ""
    trace: Trace | None = None
    seconds: dict[Stage, float] = field(default_factory=dict)
    images: int = 0
    hits: int = 0
    received: int = 0
    sent: int = 0


_record: ContextVar[Record | None] = ContextVar("record", default=None)


def begin(request_id: str = "", trace: Trace | None = None) -> Record:
    """Start the record of the request that this task serves."""
    record = Record(request_id, trace)
    _record.set(record)
    return record


def current() -> Record | None:
    """The record of the request at hand, if there is one."""
    return _record.get()


def took(stage: Stage, seconds: float, *, ago: float = 0.0) -> None:
    """Add a stage's time to the record of the request at hand, if there is one; it ended ``ago`` seconds ago."""
    record = _record.get()
    if record is None:
        return
    record.seconds[stage] = max(seconds, record.seconds.get(stage, 0.0))
    if record.trace is not None and record.trace.recording:
        ended = time.perf_counter() - ago
        record.trace.took(stage, ended - seconds, ended)


def received(count: int) -> None:
    """Add bytes of the body of the request at hand."""
    record = _record.get()
    if record is not None:
        record.received += count


def batched(contexts: Iterable[Context], seconds: float, about: Mapping[str, int]) -> None:
    """Say that a batch has just run for the requests that these contexts are of."""
    records = [context.get(_record) for context in contexts]
    traces = [record.trace for record in records if record and record.trace and record.trace.recording]
    if traces:
        traces[0].batch(traces, seconds, about)


def server_timing(record: Record) -> str:
    """The header's value, in milliseconds."""
    seconds = record.seconds
    return ", ".join(f"{stage};dur={1000 * seconds[stage]:.2f}" for stage in STAGES if stage in seconds)
