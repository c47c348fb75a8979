"""Addresses of bundles, and the two things done with them; where a directory, a server and the hub differ."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import unquote, urlsplit

from bootleg_bundle.bundle import open_bundle
from bootleg_bundle.errors import ConfigError
from bootleg_bundle.transfer import hub
from bootleg_bundle.transfer.directory import DirectorySource
from bootleg_bundle.transfer.meter import OpenMeter, terminal_meter
from bootleg_bundle.transfer.pull import pull_bundle
from bootleg_bundle.transfer.push import push_to_web
from bootleg_bundle.transfer.retry import Retry
from bootleg_bundle.transfer.web import WebPlace, WebSettings

if TYPE_CHECKING:
    from collections.abc import Callable

    from bootleg_bundle.transfer.source import Source


def _silent(_: str) -> None: ...


@dataclass(frozen=True)
class Means:
    """What transfers are made with.

    Attributes:
        web: token, timeout and proxies.
        retry: how to meet faults that may pass.
        meter: shows the bytes.
        say: is told what a user may want to know.
    """

    web: WebSettings = field(default_factory=WebSettings)
    retry: Retry = field(default_factory=Retry)
    meter: OpenMeter = terminal_meter
    say: Callable[[str], None] = _silent


def pull(address: str, out: Path, means: Means, *, sha256: str | None = None, replace: bool = False) -> bool:
    """Fetch the bundle at ``address``: a directory, ``file://``, ``http(s)://`` or ``hf:OWNER/NAME[@REVISION]``.

    Returns:
        False when ``out`` is that bundle already.

    Raises:
        BundleError: it cannot be had, or is not as it should be; ``out`` is as it was.
        ConfigError: ``address`` is none of these.
    """
    return pull_bundle(
        _source(address, means),
        out,
        retry=means.retry,
        meter=means.meter,
        say=means.say,
        sha256=sha256,
        replace=replace,
    )


def push(path: Path, address: str, means: Means, *, replace: bool = False) -> bool:
    """Send the bundle in ``path``, verified before, to an address of the kinds that :func:`pull` takes.

    Returns:
        False when the place has that bundle already.

    Raises:
        BundleError: it is no whole bundle, or the place does not take it.
        ConfigError: ``address`` is no address.
    """
    bundle = open_bundle(path)
    folder = _folder(address)
    if folder is not None:
        return pull(str(path), folder, means, sha256=bundle.sha256, replace=replace)
    if address.startswith(hub.PREFIX):
        parsed = hub.parse_address(address)
        return hub.push_to_hub(bundle, parsed, means.web, means.retry, hub.connect(means.web), replace=replace)
    return push_to_web(bundle, _web(address, means), retry=means.retry, meter=means.meter, replace=replace)


def _source(address: str, means: Means) -> Source:
    folder = _folder(address)
    if folder is not None:
        return DirectorySource(folder)
    if address.startswith(hub.PREFIX):
        return hub.hub_source(hub.parse_address(address), means.web, means.retry, hub.connect(means.web))
    return _web(address, means)


def _web(address: str, means: Means) -> WebPlace:
    place = WebPlace(address, means.web)
    if place.withheld:
        means.say(f"the token is not sent to {place.label}: it is not https")
    return place


def _folder(address: str) -> Path | None:
    """The directory that an address names; None for another kind of place."""
    if address.startswith((hub.PREFIX, "http://", "https://")):
        return None
    if address.startswith("file://"):
        parts = urlsplit(address)
        if parts.netloc not in {"", "localhost"} or parts.query or parts.fragment:
            raise ConfigError("a file address must be file:///path, on this machine")
        return Path(unquote(parts.path))
    if "://" in address:
        scheme = address.partition("://")[0]
        raise ConfigError(f"{scheme}: no such place; known: a directory, file://, http://, https:// and {hub.PREFIX}")
    return Path(address)
