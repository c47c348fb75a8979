"""What a request may cost and how urgent it is: its ticket, and the charge to its key. Every image route asks here.

It is asked when a request's images are known and none is decoded. The pipeline takes no images without a ticket, so no
route can forget it.
"""

from __future__ import annotations

import asyncio
import ipaddress
from typing import TYPE_CHECKING, Final, get_args

from bootleg_service.access.bearer import key_of
from bootleg_service.access.quotas import Quotas
from bootleg_service.batching.ticket import Lane, Ticket
from bootleg_service.errors import QuotaError, RequestError

if TYPE_CHECKING:
    from starlette.requests import Request

    from bootleg_service.metrics import Metrics

PRIORITY_HEADER: Final = "X-Priority"
TIMEOUT_HEADER: Final = "X-Request-Timeout-Ms"
MAX_TIMEOUT_MS: Final = 3_600_000
LANES: Final[tuple[Lane, ...]] = get_args(Lane)


class Admission:
    """Lets requests in.

    Args:
        seconds: longest time to an answer.
        metrics: where refusals are counted.
        quotas: of the keys.
    """

    def __init__(self, seconds: float, metrics: Metrics, quotas: Quotas | None = None) -> None:
        self._seconds = seconds
        self._metrics = metrics
        self._quotas = quotas or Quotas()

    def admit(self, request: Request, images: int) -> Ticket:
        """Charge a request's images to its key, and write its ticket; its time begins now.

        Raises:
            RequestError: a header about urgency or time is malformed.
            QuotaError: the key's quota is spent.
        """
        lane, seconds = _lane(request), _seconds(request)
        key = key_of(request)
        if key is not None:
            try:
                self._quotas.charge(key, images)
            except QuotaError:
                self._metrics.rejected.labels("quota").inc(images)
                raise
        client = f"key {key.name}" if key is not None else _address(request)
        return Ticket(client, lane, asyncio.get_running_loop().time() + min(seconds, self._seconds))


def admit(request: Request, images: int) -> Ticket:
    """:meth:`Admission.admit` of the application that serves ``request``."""
    admission: Admission = request.app.state.admission
    return admission.admit(request, images)


def _lane(request: Request) -> Lane:
    asked = request.headers.get(PRIORITY_HEADER)
    if asked is None:
        return "interactive"
    for lane in LANES:
        if asked == lane:
            return lane
    raise RequestError(
        f"{PRIORITY_HEADER}: {asked[:40]!a} asked for; {' and '.join(LANES)} are known", param=PRIORITY_HEADER
    )


def _seconds(request: Request) -> float:
    asked = request.headers.get(TIMEOUT_HEADER)
    if asked is None:
        return float("inf")
    if asked.isascii() and asked.isdigit() and len(asked) <= 10 and 1 <= int(asked) <= MAX_TIMEOUT_MS:
        return int(asked) / 1000
    raise RequestError(
        f"{TIMEOUT_HEADER}: {asked[:40]!a} is no whole number of milliseconds from 1 to {MAX_TIMEOUT_MS:,}",
        param=TIMEOUT_HEADER,
    )


def _address(request: Request) -> str:
    """The peer's: behind a proxy that the operator trusts, what that one says. Of IPv6, the network of one customer."""
    host = request.client.host if request.client is not None else ""
    if ":" not in host:
        return host
    try:
        address = ipaddress.IPv6Address(host.partition("%")[0])
    except ValueError:
        return host
    if address.ipv4_mapped is not None:  # how a socket for both families names who came by IPv4: in one network all
        return str(address.ipv4_mapped)
    return str(ipaddress.ip_network((address, 64), strict=False))
