"""Where an HTTP redirect may lead: to http and https, never down from https, and never with another host's token."""

from __future__ import annotations

import urllib.request
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from bootleg_bundle.errors import BundleTransferError

if TYPE_CHECKING:
    from http.client import HTTPMessage
    from typing import IO

_PORTS = {"http": 80, "https": 443}


class Redirects(urllib.request.HTTPRedirectHandler):
    """Follows a GET five hops far; the base class counts them and answers a loop with the status it met."""

    max_redirections = 5
    max_repeats = 2

    def redirect_request(
        self,
        req: urllib.request.Request,
        fp: IO[bytes],
        code: int,  # noqa: ARG002
        msg: str,  # noqa: ARG002
        headers: HTTPMessage,  # noqa: ARG002
        newurl: str,
    ) -> urllib.request.Request:
        """The next request.

        Raises:
            BundleTransferError: it may not be made.
        """
        host = urlsplit(req.full_url).hostname
        scheme = urlsplit(newurl).scheme
        if req.get_method() != "GET":
            fp.close()
            raise BundleTransferError(f"{host} redirects an upload; give the address that takes it")
        if scheme not in _PORTS or (scheme == "http" and req.type == "https"):
            fp.close()
            raise BundleTransferError(f"{host} redirects to {scheme}: this is not followed")
        kept = dict(req.header_items())
        if origin(newurl) != origin(req.full_url):
            kept.pop("Authorization", None)
        kept.pop("Host", None)
        return urllib.request.Request(newurl, headers=kept, method="GET", unverifiable=True)  # noqa: S310


def origin(url: str) -> tuple[str, str, int | None]:
    """Scheme, host and port of an address."""
    parts = urlsplit(url)
    return parts.scheme, parts.hostname or "", parts.port or _PORTS.get(parts.scheme)
