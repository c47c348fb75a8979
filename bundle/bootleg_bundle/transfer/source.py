"""What a place must offer to be pulled from, and the bounded reading of its manifest.

:mod:`~bootleg_bundle.transfer.directory` and :mod:`~bootleg_bundle.transfer.web` implement it; both signals below stay
inside this package.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Protocol

from bootleg_bundle.errors import BundleTransferError, ManifestError
from bootleg_bundle.manifest import MANIFEST_NAME, MAX_MANIFEST_BYTES

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractContextManager

    from bootleg_bundle.transfer.retry import Retry

CHUNK_BYTES: Final = 2**20


class AbsentError(Exception):
    """The place has no such file."""


class TransientError(Exception):
    """It failed in a way that may pass; ``wait`` is the time in seconds that the place asks for, if it does."""

    def __init__(self, message: str, wait: float | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.wait = wait


@dataclass(frozen=True)
class Stream:
    """A file being read.

    Attributes:
        start: where it begins; 0 from a place that cannot begin elsewhere.
        size: bytes of the whole file, where the place says so beforehand.
        read: gives at most so many bytes, none at the end.
    """

    start: int
    size: int | None
    read: Callable[[int], bytes]


class Source(Protocol):
    """A place that holds a bundle."""

    label: str

    def open(self, name: str, start: int) -> AbstractContextManager[Stream]:
        """Read a file from byte ``start`` on.

        Raises:
            AbsentError: there is no such file.
            TransientError: it may work later; reading may raise it too.
            BundleTransferError: it will not.
        """


def read_manifest(source: Source, retry: Retry) -> bytes:
    """Return the bytes of the manifest, never more than a manifest may have.

    Raises:
        AbsentError: there is none.
        ManifestError: it is longer than that.
        BundleTransferError: it cannot be read.
    """
    return retry.run(lambda: _read_manifest(source))


def fetch_manifest(source: Source, retry: Retry) -> bytes:
    """The same for a place that ought to have one: its absence is an error of ours."""
    try:
        return read_manifest(source, retry)
    except AbsentError:
        raise BundleTransferError(f"{source.label} holds no bundle: it has no {MANIFEST_NAME}") from None


def _read_manifest(source: Source) -> bytes:
    too_long = f"{MANIFEST_NAME} of {source.label} has over {MAX_MANIFEST_BYTES:,} bytes, which is the limit"
    with source.open(MANIFEST_NAME, 0) as stream:
        if stream.size is not None and stream.size > MAX_MANIFEST_BYTES:
            raise ManifestError(too_long)
        raw = bytearray()
        while chunk := stream.read(CHUNK_BYTES):
            raw += chunk
            if len(raw) > MAX_MANIFEST_BYTES:
                raise ManifestError(too_long)
    if stream.size is not None and len(raw) < stream.size:
        raise TransientError(f"{source.label} sent {len(raw):,} of {stream.size:,} bytes of {MANIFEST_NAME}")
    return bytes(raw)
