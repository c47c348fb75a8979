"""What a call wants done, as data: the calls in ``calls.py`` yield these, and two small drivers do them.

So that threads and asyncio share every decision: what is sent, repeated, split and joined is decided once.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias, TypeVar

T = TypeVar("T")


@dataclass(frozen=True)
class Request:
    """One HTTP request; ``images`` become the raw body when there is one, else multipart files."""

    method: str
    path: str
    params: Mapping[str, str] = field(default_factory=dict)
    headers: Mapping[str, str] = field(default_factory=dict)
    images: Sequence[bytes] = ()

    def arguments(self) -> dict[str, Any]:
        """For ``build_request`` of either of httpx's clients."""
        headers = dict(self.headers)
        body: dict[str, Any] = {}
        if len(self.images) == 1:
            headers["Content-Type"] = "application/octet-stream"
            body = {"content": self.images[0]}
        elif self.images:
            body = {"files": [("images", ("image", data, "application/octet-stream")) for data in self.images]}
        return {"method": self.method, "url": self.path, "params": self.params, "headers": headers, **body}


@dataclass(frozen=True)
class Reply:
    """A whole answer; header names in lower case."""

    status: int
    headers: Mapping[str, str]
    content: bytes

    def header(self, name: str) -> str | None:
        """One header, or None."""
        return self.headers.get(name)


@dataclass(frozen=True)
class Lost:
    """No whole answer arrived, and why."""

    reason: str


@dataclass(frozen=True)
class Send:
    """Send a request and wait for its answer; gives a :class:`Reply` or :class:`Lost`."""

    request: Request
    seconds: float


@dataclass(frozen=True)
class Wait:
    """Let time pass."""

    seconds: float


@dataclass(frozen=True)
class Work:
    """Call something that blocks or computes; gives what it returns, raises what it raises."""

    function: Callable[[], Any]


@dataclass(frozen=True)
class Together:
    """Run several, a bounded number at a time; gives their results in order. The first fault ends them all."""

    steps: Sequence[Steps[Any]]


Step: TypeAlias = Send | Wait | Work | Together
Steps: TypeAlias = Generator[Step, Any, T]
