"""Why the service is not live, or not ready: as data, one reason for each thing that is wrong.

Liveness says that the process should be ended; readiness, that others should be asked meanwhile. The health routes of
all dialects read it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from pydantic import BaseModel

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from bootleg_service.models import Models, Slot

Code = Literal[
    "starting", "warming", "draining", "stalled", "dead", "canary_failed", "model_failing", "saturated", "closed"
]


class Reason(BaseModel):
    """One thing that is wrong.

    Attributes:
        model: the one it concerns; None: the whole service.
    """

    code: Code
    message: str
    model: str | None = None


def not_live(models: Models) -> list[Reason]:
    """Why nothing but a new process helps; empty while all is well, and while the models are being loaded."""
    return [reason for slot in models.slots for reason in _dead(slot)]


def not_ready(models: Models, model: str | None = None) -> list[Reason]:
    """Why requests are not welcome.

    Args:
        models: of the service.
        model: look at this one alone.
    """
    slots: Iterable[Slot] = [slot for slot in models.slots if model is None or slot.name == model]
    reasons = [reason for slot in slots for reason in _unfit(slot, models.settings.lifecycle.saturated_seconds)]
    if models.draining:
        reasons.insert(0, Reason(code="draining", message="the service is shutting down"))
    return reasons


def summary(reasons: list[Reason]) -> str:
    """The reasons in one line, for dialects without a place for data."""
    return "; ".join(f"{reason.model}: {reason.message}" if reason.model else reason.message for reason in reasons)


def _dead(slot: Slot) -> Iterator[Reason]:
    if slot.service is None:
        return
    batcher = slot.service.batcher
    if batcher.stalled:
        yield Reason(code="stalled", message="a call of the model does not end", model=slot.name)
    if not batcher.alive and not slot.service.pipeline.draining:
        yield Reason(code="dead", message="the batcher has stopped", model=slot.name)


def _unfit(slot: Slot, saturated_seconds: float) -> Iterator[Reason]:
    service = slot.service
    if service is None:
        says = {"starting": "the model is being loaded", "warming": "the model is being warmed up and checked"}
        yield Reason(code=slot.stage, message=says[slot.stage], model=slot.name)
        return
    yield from _dead(slot)
    if service.pipeline.draining:
        yield Reason(code="closed", message="the model takes no images any more", model=slot.name)
    if not service.canary.passed:
        yield Reason(code="canary_failed", message="the golden images are not answered rightly", model=slot.name)
    if not service.batcher.healthy:
        yield Reason(code="model_failing", message="the model failed on the last images", model=slot.name)
    if service.batcher.saturation.seconds >= saturated_seconds:
        message = f"images have been refused for the load for over {saturated_seconds:g} s"
        yield Reason(code="saturated", message=message, model=slot.name)
