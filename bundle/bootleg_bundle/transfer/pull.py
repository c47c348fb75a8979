"""Pull: the manifest first, then each file under its bounds, then the bundle's name.

Called for every kind of source. Nothing is read past the size that the manifest states, and nothing lands before a
reader would take it.
"""

from __future__ import annotations

import hashlib
import os
import shutil
from typing import TYPE_CHECKING

from bootleg_bundle.bundle import open_bundle
from bootleg_bundle.errors import BundleError, BundleFileError, BundleTransferError, ManifestError
from bootleg_bundle.manifest import Manifest, parse_manifest
from bootleg_bundle.transfer.landing import check_replaceable, landing
from bootleg_bundle.transfer.part import Part
from bootleg_bundle.transfer.source import CHUNK_BYTES, AbsentError, Source, TransientError, fetch_manifest

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from bootleg_bundle.transfer.meter import OpenMeter
    from bootleg_bundle.transfer.retry import Retry


def pull_bundle(
    source: Source,
    out: Path,
    *,
    retry: Retry,
    meter: OpenMeter,
    say: Callable[[str], None],
    sha256: str | None = None,
    replace: bool = False,
) -> bool:
    """Fetch the bundle of ``source`` to ``out``, going on where an interrupted pull stopped.

    Args:
        source: where it is.
        out: the directory to make.
        retry: how to meet faults that may pass.
        meter: shows the bytes.
        say: is told what a user may want to know.
        sha256: hash that the manifest must have; None takes any.
        replace: whether another bundle at ``out`` may go.

    Returns:
        False when the same bundle lies at ``out`` already.

    Raises:
        BundleError: ``out`` holds something else, or the source's bundle is not as it should be.
    """
    if sha256 is not None and _holds(out, sha256):
        return False
    raw = fetch_manifest(source, retry)
    found = hashlib.sha256(raw).hexdigest()
    if sha256 not in {None, found}:
        raise ManifestError(f"the manifest of {source.label} has the SHA-256 {found}, not {sha256}")
    manifest = parse_manifest(raw)
    if _holds(out, found):
        return False
    _check_vacant(out, replace=replace)
    with landing(out, say) as place:
        if _holds(out, found):  # another pull was first
            place.remove()
            return False
        _check_vacant(out, replace=replace)
        place.keep_parts_of(raw)
        _fetch_all(source, manifest, place.folder, retry, meter)
        open_bundle(place.folder)  # as a reader would, before it gets the name
        place.settle()
    return True


def _holds(out: Path, sha256: str) -> bool:
    """Whether ``out`` is the whole bundle of that hash."""
    try:
        return open_bundle(out).sha256 == sha256
    except BundleError:
        return False


def _check_vacant(out: Path, *, replace: bool) -> None:
    if not os.path.lexists(out) or (out.is_dir() and not any(out.iterdir())):
        return
    if not replace:
        raise BundleError(
            f"{out} exists already and is another bundle, a damaged one or none: say --replace, or move it"
        )
    check_replaceable(out)


def _fetch_all(source: Source, manifest: Manifest, folder: Path, retry: Retry, meter: OpenMeter) -> None:
    total = sum(entry.bytes for entry in manifest.files.values())
    held = sum((folder / name).stat().st_size for name in manifest.files if (folder / name).is_file())
    free = shutil.disk_usage(folder).free
    if total - held > free:
        raise BundleTransferError(
            f"{manifest.name} needs {(total - held) / 1e6:,.1f} MB more; {folder} has {free / 1e6:,.1f} MB free"
        )
    before = 0
    with meter(f"pulling {manifest.name}", total) as shown:
        for name, entry in sorted(manifest.files.items()):
            with Part(folder / name, entry) as part:
                _fetch(source, name, part, retry, lambda held, before=before: shown(before + held))  # type: ignore[misc]
            before += entry.bytes


def _fetch(source: Source, name: str, part: Part, retry: Retry, shown: Callable[[int], None]) -> None:
    resumed = part.held > 0
    while not part.whole:
        if part.missing == 0:  # what was kept may be what is damaged: once more from its beginning
            part.restart()
            resumed = False
        try:
            retry.run(lambda: _continue(source, name, part, shown), lambda: part.held)
        except AbsentError:
            raise BundleFileError(f"{name} is missing from {source.label}") from None
        if not part.whole and not resumed:
            part.restart()
            raise BundleFileError(
                f"{name} of {source.label} does not have the SHA-256 that the manifest states: "
                "it was changed or damaged"
            )
    shown(part.held)


def _continue(source: Source, name: str, part: Part, shown: Callable[[int], None]) -> None:
    size = part.held + part.missing
    with source.open(name, part.held) as stream:
        if stream.size not in {None, size}:
            raise BundleFileError(f"{name} of {source.label} has {stream.size:,} bytes; the manifest says {size:,}")
        if stream.start not in {0, part.held}:
            raise BundleTransferError(f"{source.label} sends another part of {name} than it was asked for")
        if stream.start != part.held:
            part.restart()
        while part.missing and (chunk := stream.read(min(CHUNK_BYTES, part.missing))):
            part.append(chunk)
            shown(part.held)
    if part.missing:
        raise TransientError(f"{source.label} sent {part.held:,} of {size:,} bytes of {name}")
