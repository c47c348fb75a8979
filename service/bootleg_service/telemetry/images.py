"""Every image that reaches the pipeline ends with one outcome, counted here, whatever becomes of its request."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, Final

from bootleg_bundle.errors import BootlegError
from bootleg_service import stages
from bootleg_service.telemetry.endings import CLIENT_CLOSED

if TYPE_CHECKING:
    from collections.abc import Sequence

    from prometheus_client import Counter

    from bootleg_service.metrics import Metrics
    from bootleg_service.pipeline import Answer

CACHED: Final = "cached"
COMPUTED: Final = "computed"

_TASKS: Final = {
    "embedding": "embedding",
    "layers": "embedding",
    "patch_tokens": "patches",
    "layer_tokens": "patches",
}


class ImageOutcomes:
    """Counts images by task and outcome."""

    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics
        self._counters: dict[tuple[str, str], Counter] = {}

    def asked(self, images: int) -> None:
        """A request's images reach the pipeline; exactly one of the other two follows, perhaps after its end."""
        record = stages.current()
        if record is not None:
            record.images += images

    def answered(self, answers: Sequence[Answer | BootlegError], output: Any) -> None:
        """A request's images have their answers, or errors of their own."""
        ends: dict[str, int] = {}
        for answer in answers:
            outcome = answer.code if isinstance(answer, BootlegError) else CACHED if answer.hit else COMPUTED
            ends[outcome] = ends.get(outcome, 0) + 1
        for outcome, images in ends.items():
            self._count(output, outcome, images)
        record = stages.current()
        if record is not None:
            record.hits += ends.get(CACHED, 0)

    def failed(self, images: int, output: Any, error: BaseException) -> None:
        """None of a request's images is answered."""
        left = isinstance(error, asyncio.CancelledError)
        code = error.code if isinstance(error, BootlegError) else "internal_error"
        self._count(output, CLIENT_CLOSED if left else code, images)

    def _count(self, output: Any, outcome: str, images: int) -> None:
        key = (task_of(output), outcome)
        if key not in self._counters:
            self._counters[key] = self._metrics.images.labels(*key)
        self._counters[key].inc(images)


def task_of(output: Any) -> str:
    """What an output is for: ``embedding``, ``patches``, or ``mask``, which is made from a head's logits or tokens."""
    return _TASKS.get(output, "mask") if isinstance(output, str) else "mask"
