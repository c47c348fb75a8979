"""The real photographs beside the repository, for the few tests that want them."""

from __future__ import annotations

import tarfile
from pathlib import Path

import pytest

DATA = Path(__file__).parents[2] / "shared" / "data"


def photographs(count: int) -> list[bytes]:
    """The first ``count`` photographs as files; skips the test, saying so, where they are not."""
    archive = DATA / "photos.tar"
    if not archive.is_file():
        pytest.skip(f"needs real photographs: {archive} is not there")
    with tarfile.open(archive) as tar:
        members = [m for m in tar if m.isfile() and m.name.endswith(".jpg")][:count]
        return [tar.extractfile(member).read() for member in members]
