"""Fixtures of the heads' suite: a checkpoint of random weights, and coloured blocks to segment."""

import pytest

from tests.training.heads.blocks import write_parts
from tests.training.probes.conftest import saved

__all__ = ["parts", "saved"]


@pytest.fixture
def parts(tmp_path):
    return write_parts(tmp_path / "blocks")
