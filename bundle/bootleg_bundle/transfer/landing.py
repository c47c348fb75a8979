"""The ``.partial`` directory beside a bundle to be: one pull at a time fills it, and a rename gives it its name.

Whatever ends a pull, what has arrived stays for the next one, and the bundle's own name never shows half of it.
"""

from __future__ import annotations

import fcntl
import os
import shutil
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Final

from bootleg_bundle.errors import BundleError
from bootleg_bundle.manifest import MANIFEST_NAME, parse_manifest

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

LOCK_NAME: Final = ".lock"


class Landing:
    """A ``.partial`` directory that this pull holds alone."""

    def __init__(self, folder: Path, out: Path) -> None:
        self.folder = folder
        self._out = out

    def keep_parts_of(self, manifest: bytes) -> None:
        """Throw away what another manifest left, and all of it when there is a link; note whose parts come now."""
        path = self.folder / MANIFEST_NAME
        linked = any(entry.is_symlink() for entry in self.folder.rglob("*"))
        if linked or not path.is_file() or path.read_bytes() != manifest:
            self.clear()
            path.write_bytes(manifest)

    def clear(self) -> None:
        """Delete everything but the lock."""
        for entry in self.folder.iterdir():
            if entry.is_dir() and not entry.is_symlink():
                shutil.rmtree(entry)
            elif entry.name != LOCK_NAME:
                entry.unlink()

    def remove(self) -> None:
        """Delete the directory."""
        shutil.rmtree(self.folder)

    def settle(self) -> None:
        """Give the directory the bundle's name; a bundle that has it goes. There is an instant without either."""
        _flush(self.folder)
        if self._out.exists():
            aside = self._out.with_name(self._out.name + ".replaced")
            shutil.rmtree(aside, ignore_errors=True)
            self._out.rename(aside)
            try:
                self.folder.rename(self._out)
            except OSError:
                aside.rename(self._out)
                raise
            shutil.rmtree(aside)
        else:
            self.folder.rename(self._out)
        (self._out / LOCK_NAME).unlink()
        _flush(self._out.parent)


@contextmanager
def landing(out: Path, say: Callable[[str], None]) -> Iterator[Landing]:
    """Hold ``out``'s ``.partial`` directory, after any other pull that does.

    Raises:
        BundleError: it is a link.
    """
    folder = out.with_name(out.name + ".partial")
    descriptor = _lock(folder, say)
    try:
        yield Landing(folder, out)
    finally:
        os.close(descriptor)


def check_replaceable(out: Path) -> None:
    """Refuse to delete what is no bundle, or holds more than one.

    Raises:
        BundleError: with what is in the way.
    """
    if out.is_symlink() or not out.is_dir():
        raise BundleError(f"{out} is no directory: --replace replaces bundles only")
    try:
        listed = set(parse_manifest((out / MANIFEST_NAME).read_bytes()).files) | {MANIFEST_NAME, LOCK_NAME}
    except (OSError, BundleError) as error:
        raise BundleError(f"{out} is no bundle that this program reads: --replace replaces bundles only") from error
    for folder, _, names in os.walk(out):
        for name in names:
            path = os.path.relpath(os.path.join(folder, name), out)  # noqa: PTH118
            if path not in listed:
                raise BundleError(f"{out} holds {path}, which is no part of its bundle: move it before --replace")


def _lock(folder: Path, say: Callable[[str], None]) -> int:
    while True:
        if folder.is_symlink():
            raise BundleError(f"{folder} is a link: remove it")
        with suppress(FileExistsError):  # exist_ok would look what is there, and raise where it has settled meanwhile
            folder.mkdir(parents=True)
        try:
            descriptor = os.open(folder / LOCK_NAME, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o644)
        except FileNotFoundError:
            continue  # it settled just now
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            say(f"another pull is filling {folder}: waiting for it")
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        try:
            if os.path.samestat(os.fstat(descriptor), os.stat(folder / LOCK_NAME)):  # noqa: PTH116
                return descriptor
        except FileNotFoundError:
            pass
        os.close(descriptor)  # the lock of a directory that has settled, or is gone


def _flush(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
