import pytest

from tests.fake_tensorrt import fake_gpu


@pytest.fixture
def gpu(monkeypatch):
    return fake_gpu(monkeypatch)
