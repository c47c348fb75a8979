"""One real server for the clients of a module; its engine is as new for each test."""

import base64

import pytest

from tests.service.live import live
from tests.service.pictures import shade


@pytest.fixture(scope="module")
def server():
    with live() as running:
        yield running


@pytest.fixture(autouse=True)
def _whole_engine(request):
    yield
    if "server" in request.fixturenames:
        running = request.getfixturevalue("server")
        running.engine.poison = set()
        running.engine.batches.clear()


@pytest.fixture
def uri():
    """A shade as a data URI."""
    return lambda number: "data:image/png;base64," + base64.b64encode(shade(number)).decode()


@pytest.fixture
def b64():
    """A shade in base64."""
    return lambda number: base64.b64encode(shade(number)).decode()
