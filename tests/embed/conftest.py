"""Fixtures of bulk embedding."""

import pytest

from tests import images


@pytest.fixture
def pictures(tmp_path):
    """A folder of 48 images of the tiny bundle's side, nested."""
    folder = tmp_path / "pictures"
    for number in range(48):
        path = folder / f"{number % 3}" / f"{number:03}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(images.png(images.scene(8, 8, seed=number)))
    return folder
