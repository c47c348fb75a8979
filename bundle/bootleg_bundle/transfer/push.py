"""Push to an HTTP location: each file, and the manifest last, so that a reader finds a bundle or none.

Called for http and https; a directory is pushed to by pulling from here, the hub takes one commit.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

from bootleg_bundle.errors import BundleError, BundleFileError
from bootleg_bundle.manifest import MANIFEST_NAME, FileEntry
from bootleg_bundle.transfer.source import CHUNK_BYTES, AbsentError, Source, read_manifest

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from bootleg_bundle.bundle import Bundle
    from bootleg_bundle.transfer.meter import OpenMeter
    from bootleg_bundle.transfer.retry import Retry
    from bootleg_bundle.transfer.web import WebPlace


def push_to_web(bundle: Bundle, place: WebPlace, *, retry: Retry, meter: OpenMeter, replace: bool) -> bool:
    """Send a bundle.

    Returns:
        False when the place has it already.

    Raises:
        BundleError: the place has another, or refuses a file.
    """
    if not wanted(bundle, place, retry, replace=replace):
        return False
    files = bundle.manifest.files
    last = FileEntry(sha256=bundle.sha256, bytes=(bundle.path / MANIFEST_NAME).stat().st_size)
    before = 0
    with meter(f"pushing {bundle.manifest.name}", last.bytes + sum(entry.bytes for entry in files.values())) as shown:
        for name, entry in [*sorted(files.items()), (MANIFEST_NAME, last)]:
            _put(bundle, place, name, entry, retry, lambda sent, before=before: shown(before + sent))  # type: ignore[misc]
            before += entry.bytes
        shown(before)
    return True


def wanted(bundle: Bundle, place: Source, retry: Retry, *, replace: bool) -> bool:
    """Whether a place lacks the bundle.

    Raises:
        BundleError: it has another one, which may not be replaced.
    """
    try:
        there = hashlib.sha256(read_manifest(place, retry)).hexdigest()
    except AbsentError:
        return True
    if there == bundle.sha256:
        return False
    if not replace:
        raise BundleError(f"{place.label} holds another bundle: say --replace, or choose another place")
    return True


def _put(
    bundle: Bundle, place: WebPlace, name: str, entry: FileEntry, retry: Retry, shown: Callable[[int], None]
) -> None:
    retry.run(lambda: place.put(name, _checked(bundle, name, entry, shown), entry.bytes))


def _checked(bundle: Bundle, name: str, entry: FileEntry, shown: Callable[[int], None]) -> Iterator[bytes]:
    """The file's bytes; the last of them only when all are what the manifest states."""
    digest, sent = hashlib.sha256(), 0
    with (bundle.path / name).open("rb") as file:
        while chunk := file.read(CHUNK_BYTES):
            digest.update(chunk)
            sent += len(chunk)
            if sent > entry.bytes or (sent == entry.bytes and digest.hexdigest() != entry.sha256):
                raise BundleFileError(f"{name} was changed while it was sent")
            yield chunk
            shown(sent)
    if sent != entry.bytes:
        raise BundleFileError(f"{name} was changed while it was sent")
