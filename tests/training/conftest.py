"""Fixtures of the training suite: the smallest settings that keep every part of the method."""

from __future__ import annotations

import pytest
import torch

from tests.training.tiny import tiny_config, tiny_pack


@pytest.fixture(scope="session", autouse=True)
def _one_thread():
    """Same numbers on every machine, and no fight for cores at these sizes."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture
def config():
    return tiny_config()


@pytest.fixture(scope="session")
def pack():
    return tiny_pack()
