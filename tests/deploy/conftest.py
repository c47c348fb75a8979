"""Fixtures of the deploy suite: an engine, the image, the folder that is mounted, and a stack for each module."""

from __future__ import annotations

import shutil

import pytest

from bootleg_bundle import default_bundle_path
from tests.contract.tiny import _remove_tiny, exported_bundle, tiny_checkpoint
from tests.deploy import stack

__all__ = ["_remove_tiny", "exported_bundle", "tiny_checkpoint"]

IMAGE = "bootleg-vision-service:deploy-test"


@pytest.fixture(scope="session")
def engine():
    """A Docker engine; skips what needs one, saying so."""
    if why := stack.engine_is_absent():
        pytest.skip(why)


@pytest.fixture(scope="session")
def image(engine):
    """The service's image, built from this tree; its name."""
    builder = stack.Stack("bootleg-build", stack.ROOT, SERVICE_IMAGE=IMAGE)
    builder.compose("build", "service")
    return IMAGE


@pytest.fixture(scope="session")
def store(tmp_path_factory, exported_bundle):
    """What is mounted as /store: two bundles whose vectors cannot be compared, ``old`` and ``new``."""
    folder = tmp_path_factory.mktemp("store")
    shutil.copytree(default_bundle_path(), folder / "bundles" / "old")
    shutil.copytree(exported_bundle, folder / "bundles" / "new")
    for path in (folder, *folder.rglob("*")):  # the service runs as another user
        path.chmod(0o755 if path.is_dir() else 0o644)
    return folder


@pytest.fixture(scope="session")
def picture():
    """The example photograph."""
    return (stack.ROOT / "service/bootleg_service/example.jpg").read_bytes()
