"""Fixtures of the service suite."""

import pytest

from tests.contract.tiny import _remove_tiny, exported_bundle, tiny_checkpoint

from .fake_engine import FakeEngine
from .serving import serving

__all__ = ["_remove_tiny", "anyio_backend", "engine", "exported_bundle", "served", "tiny_checkpoint"]


@pytest.fixture(scope="session")
def anyio_backend():
    return "asyncio"


@pytest.fixture
def engine():
    return FakeEngine()


@pytest.fixture
async def served(engine):
    """An application with default settings."""
    async with serving(engine) as running:
        yield running
