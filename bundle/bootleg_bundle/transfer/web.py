"""A bundle at an HTTP location: files by GET with ranges, and by PUT; the standard library's client, kept short.

It goes to http and https alone, never from https back to http, and lets nothing but its own headers out: a token goes
only to the host it was meant for, over https or on this machine. No response's body is read beyond what was asked for.
"""

from __future__ import annotations

import http.client
import ipaddress
import re
import ssl
import time
import urllib.error
import urllib.request
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit

from pydantic import BaseModel, ConfigDict, Field, SecretStr

from bootleg_bundle.errors import BundleTransferError, ConfigError
from bootleg_bundle.transfer.redirects import Redirects, origin
from bootleg_bundle.transfer.retry import retry_after
from bootleg_bundle.transfer.source import AbsentError, Stream, TransientError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

TRANSIENT: Final = frozenset({408, 425, 429, 500, 502, 503, 504})
_RANGE = re.compile(r"bytes (\d{1,18})-\d{1,18}/(\d{1,18}|\*)")


class WebSettings(BaseModel):
    """How to speak to servers."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    token: SecretStr | None = Field(None, description="sent as a bearer token")
    timeout_seconds: float = Field(30.0, gt=0, description="without a byte")
    proxies: dict[str, str] = Field(default_factory=dict, description="by scheme; this machine is reached without")


class _RangeRefusedError(Exception):
    """Status 416: the file has no such byte."""


class WebPlace:
    """Files below a base address.

    Args:
        base: ``http(s)://host/path``.
        settings: token, timeout, proxies.

    Raises:
        ConfigError: the address has a part that it may not have.
    """

    def __init__(self, base: str, settings: WebSettings) -> None:
        _check_address(base)
        self.label = base.rstrip("/")
        self._timeout = settings.timeout_seconds
        local = _is_loopback(base)
        self._headers = {"User-Agent": "bootleg-vision", "Accept-Encoding": "identity"}
        self.withheld = settings.token is not None and not (local or base.startswith("https:"))
        if settings.token is not None and not self.withheld:
            self._headers["Authorization"] = f"Bearer {settings.token.get_secret_value()}"
        self._opener = urllib.request.OpenerDirector()  # not build_opener: that one reads file: and ftp: too
        for handler in (
            urllib.request.ProxyHandler({} if local else settings.proxies),
            urllib.request.HTTPHandler(),
            urllib.request.HTTPSHandler(),
            urllib.request.HTTPDefaultErrorHandler(),
            urllib.request.HTTPErrorProcessor(),
            Redirects(),
        ):
            self._opener.add_handler(handler)

    @contextmanager
    def open(self, name: str, start: int) -> Iterator[Stream]:
        """GET a file from byte ``start`` on, or from its beginning where the server knows no ranges.

        Raises:
            AbsentError: status 404 or 410.
            TransientError: the connection failed, or the status may pass.
            BundleTransferError: any other status.
        """
        try:
            response = self._send("GET", name, {"Range": f"bytes={start}-"} if start else {})
        except _RangeRefusedError:
            response = self._send("GET", name, {})
        with response:
            begin, size = self._extent(response, name)
            yield Stream(begin, size, lambda count: self._read(response, name, count))

    def put(self, name: str, body: Iterable[bytes], size: int) -> None:
        """PUT a file of ``size`` bytes; raises as :meth:`open` does."""
        kind = "application/json" if name.endswith(".json") else "application/octet-stream"
        try:
            self._send("PUT", name, {"Content-Length": str(size), "Content-Type": kind}, body).close()
        except AbsentError:
            raise BundleTransferError(f"{self.label} takes no files: PUT of {name} was answered with 404") from None

    def _send(
        self, method: str, name: str, headers: Mapping[str, str], body: Iterable[bytes] | None = None
    ) -> http.client.HTTPResponse:
        request = urllib.request.Request(  # noqa: S310
            f"{self.label}/{name}", data=body, headers={**self._headers, **headers}, method=method
        )
        try:
            response: http.client.HTTPResponse = self._opener.open(request, timeout=self._timeout)
        except urllib.error.HTTPError as error:
            with error:
                raise self._fault(error.code, error.headers.get("Retry-After"), name) from None
        except (OSError, http.client.HTTPException) as error:
            reason = error.reason if isinstance(error, urllib.error.URLError) else error
            if isinstance(reason, ssl.SSLCertVerificationError):
                raise BundleTransferError(f"{self.label} has no certificate that this machine trusts") from error
            raise TransientError(f"{self.label} cannot be reached for {name} ({type(reason).__name__})") from error
        return response

    def _fault(self, status: int, wait: str | None, name: str) -> Exception:
        if status in {404, 410}:
            return AbsentError(name)
        if status == http.HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE:
            return _RangeRefusedError()
        if status in TRANSIENT:
            return TransientError(
                f"{self.label} answered with status {status} for {name}", retry_after(wait, time.time())
            )
        if status in {401, 403}:
            return BundleTransferError(
                f"{self.label} refuses {name} with status {status}: BOOTLEG_BUNDLE_TOKEN must hold a token that may"
            )
        if status // 100 == 3:
            return BundleTransferError(
                f"{self.label} redirects {name} in a circle, or to where this program does not go"
            )
        return BundleTransferError(f"{self.label} answered with status {status} for {name}")

    def _extent(self, response: http.client.HTTPResponse, name: str) -> tuple[int, int | None]:
        """First byte and whole size, as the response's header states them."""
        if response.headers.get("Content-Encoding", "identity") != "identity":
            raise BundleTransferError(f"{self.label} sends {name} compressed, although asked not to")
        if response.status == http.HTTPStatus.PARTIAL_CONTENT:
            match = _RANGE.fullmatch(response.headers.get("Content-Range", ""))
            if match is None:
                raise BundleTransferError(f"{self.label} sends a part of {name} and does not say which")
            return int(match[1]), None if match[2] == "*" else int(match[2])
        length = response.headers.get("Content-Length", "")
        return 0, int(length) if re.fullmatch(r"\d{1,18}", length) else None

    def _read(self, response: http.client.HTTPResponse, name: str, count: int) -> bytes:
        try:
            return response.read(count)
        except (OSError, http.client.HTTPException) as error:
            raise TransientError(f"{self.label} broke off in {name} ({type(error).__name__})") from error


def _check_address(base: str) -> None:
    try:
        parts = urlsplit(base)
        port, host = parts.port, parts.hostname
    except ValueError:
        port, host = None, None
    if not host or port == 0 or not base.isascii() or not base.isprintable() or " " in base:
        raise ConfigError("the address must be http(s)://host[:port]/path")
    if parts.username is not None or parts.password is not None or parts.query or parts.fragment:
        raise ConfigError(
            f"the address at {host} has a user, a query or a fragment; give a plain one, "
            "and a credential in BOOTLEG_BUNDLE_TOKEN"
        )


def _is_loopback(base: str) -> bool:
    host = origin(base)[1]
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
