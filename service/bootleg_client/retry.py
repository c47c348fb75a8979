"""One request until it is answered: repetitions with full jitter, ``Retry-After``, and the call's deadline."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass, replace
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING

from bootleg_client.errors import CallDeadlineError, ConnectionLostError, api_error
from bootleg_client.steps import Lost, Send, Wait

if TYPE_CHECKING:
    from collections.abc import Callable

    from bootleg_client.errors import ClientError
    from bootleg_client.settings import Retry
    from bootleg_client.steps import Reply, Request, Steps


@dataclass(frozen=True)
class Chance:
    """Time and randomness, passed in so that tests need neither.

    Attributes:
        clock: seconds, only ever growing.
        uniform: a number between two others.
        request_id: a fresh one.
    """

    clock: Callable[[], float]
    uniform: Callable[[float, float], float]
    request_id: Callable[[], str]


def exchange(request: Request, retry: Retry, chance: Chance, *, expires: float, attempt_seconds: float) -> Steps[Reply]:
    """Send a request until it is answered with 2xx; every attempt bears the same request id.

    Raises:
        ApiError: a refusal, or the last of ``retry.attempts`` faults that may pass.
        ConnectionLostError: likewise, without an answer.
        CallDeadlineError: the deadline, or ``retry.seconds``, came first.
    """
    request_id = chance.request_id()
    request = replace(request, headers={**request.headers, "X-Request-ID": request_id})
    fault: ClientError | None = None
    expires = min(expires, chance.clock() + retry.seconds)
    for attempt in range(1, retry.attempts + 1):
        left = expires - chance.clock()
        if left <= 0:
            raise _too_late(request_id, attempt - 1) from fault
        outcome: Reply | Lost = yield Send(request, min(left, attempt_seconds))
        if not isinstance(outcome, Lost) and 200 <= outcome.status < 300:
            return outcome
        fault = _fault(outcome, request_id)
        if attempt == retry.attempts or not (isinstance(outcome, Lost) or outcome.status in retry.statuses):
            break
        pause = _pause(outcome, attempt, retry, chance)
        if chance.clock() + pause >= expires:
            raise _too_late(request_id, attempt) from fault
        yield Wait(pause)
    assert fault is not None
    raise fault


def retry_after(value: str | None) -> float:
    """Seconds that a ``Retry-After`` header asks for, in numbers or as a date (RFC 9110, 10.2.3); 0 for none."""
    if value is None:
        return 0.0
    try:
        seconds = float(value)
    except ValueError:
        try:
            seconds = parsedate_to_datetime(value).timestamp() - time.time()
        except ValueError:
            return 0.0
    return max(0.0, seconds) if math.isfinite(seconds) else 0.0


def _pause(outcome: Reply | Lost, attempt: int, retry: Retry, chance: Chance) -> float:
    longest = min(retry.longest_seconds, retry.first_seconds * 2.0 ** min(attempt - 1, 60))
    asked = 0.0 if isinstance(outcome, Lost) else retry_after(outcome.header("retry-after"))
    return asked + chance.uniform(0.0, longest)


def _fault(outcome: Reply | Lost, request_id: str) -> ClientError:
    fault = ConnectionLostError(outcome.reason) if isinstance(outcome, Lost) else api_error(outcome)
    fault.request_id = fault.request_id or request_id
    return fault


def _too_late(request_id: str, attempts: int) -> CallDeadlineError:
    error = CallDeadlineError(f"the deadline passed after {attempts} attempts at a request")
    error.request_id = request_id
    return error
