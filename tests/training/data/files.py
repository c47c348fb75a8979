"""Small sources for the tests of data: folders and tar archives, written from names and bytes."""

from __future__ import annotations

import io
import tarfile

from tests import images


def write(folder, files):
    """Files by relative name."""
    for name, data in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    return folder


def write_tar(path, members, **options):
    """A tar archive of members by name; a ``TarInfo`` in place of bytes is added as it is."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w", **options) as tar:
        for name, data in members.items():
            info = data if isinstance(data, tarfile.TarInfo) else tarfile.TarInfo(name)
            if not isinstance(data, tarfile.TarInfo):
                info.size = len(data)
            tar.addfile(info, None if isinstance(data, tarfile.TarInfo) else io.BytesIO(data))
    return path


def pictures(count, *, side=16, start=0):
    """PNG files of distinct scenes, 000.png and on."""
    return {f"{n:03}.png": images.png(images.scene(side, side, seed=start + n)) for n in range(count)}


def silent(items, total):
    """No progress display."""
    return items
