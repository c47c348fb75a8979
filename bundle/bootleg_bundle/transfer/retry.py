"""When to try again: faults that may pass, after waits that double, that chance spreads and that the place may set.

Every network request of a transfer runs through it. Time and chance are passed in; nothing is tried without end.
"""

from __future__ import annotations

import random
import time
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Final, TypeVar

from pydantic import BaseModel, ConfigDict, Field

from bootleg_bundle.errors import BundleTransferError
from bootleg_bundle.transfer.source import TransientError

if TYPE_CHECKING:
    from collections.abc import Callable

T = TypeVar("T")


class RetryPolicy(BaseModel):
    """How patient a transfer is. As it stands, a dead server is given up after 8 to 16 seconds."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    attempts: int = Field(6, ge=1, description="in a row without a new byte")
    first_wait: float = Field(0.5, ge=0, description="seconds; doubled each time, then half to all of it by chance")
    longest_wait: float = Field(30.0, ge=0, description="seconds")
    longest_asked: float = Field(120.0, ge=0, description="seconds of a Retry-After that is still waited for")


DEFAULT_POLICY: Final = RetryPolicy()


class Retry:
    """Runs attempts until one succeeds.

    Args:
        policy: how often and how long.
        sleep: waits so many seconds.
        chance: gives a number from 0 to 1.
        say: is told each fault that is tried again.
    """

    def __init__(
        self,
        policy: RetryPolicy = DEFAULT_POLICY,
        *,
        sleep: Callable[[float], None] = time.sleep,
        chance: Callable[[], float] = random.random,
        say: Callable[[str], None] = lambda _: None,
    ) -> None:
        self._policy, self._sleep, self._chance, self._say = policy, sleep, chance, say

    def run(self, attempt: Callable[[], T], reached: Callable[[], int] = lambda: 0) -> T:
        """Return what ``attempt`` returns.

        Args:
            attempt: raises :class:`TransientError` when it should be called again.
            reached: how many bytes are there; patience begins anew whenever there are more than ever before.

        Raises:
            BundleTransferError: patience has ended, or the place asks for a wait that is too long.
        """
        failures, best = 0, reached()
        while True:
            try:
                return attempt()
            except TransientError as fault:
                if reached() > best:
                    failures, best = 0, reached()
                failures += 1
                if failures >= self._policy.attempts:
                    raise BundleTransferError(f"{fault.message}; gave up after {failures} attempts") from fault
                seconds = self._wait(failures, fault)
                self._say(f"{fault.message}; trying again in {seconds:.1f} s")
                self._sleep(seconds)

    def _wait(self, failures: int, fault: TransientError) -> float:
        if fault.wait is not None:
            if fault.wait > self._policy.longest_asked:
                raise BundleTransferError(
                    f"{fault.message}; it asks to wait {fault.wait:.0f} s, over the "
                    f"{self._policy.longest_asked:.0f} s that are waited for: run the command again then"
                ) from fault
            return fault.wait
        longest: float = min(self._policy.longest_wait, self._policy.first_wait * 2 ** (failures - 1))
        return longest * (1 + self._chance()) / 2


def retry_after(value: str | None, now: float) -> float | None:
    """Read a ``Retry-After`` header, seconds or a date (RFC 9110, section 10.2.3).

    Args:
        value: the header.
        now: seconds since the epoch.

    Returns:
        Seconds to wait; None when there is no header or it says neither.
    """
    text = (value or "").strip()
    if text.isascii() and text.isdigit():
        return float(text[:9])
    try:
        return max(0.0, parsedate_to_datetime(text).timestamp() - now)
    except (ValueError, OverflowError):
        return None
