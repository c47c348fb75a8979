"""Both clients behind one blocking face, so that every test of a call runs with each."""

import asyncio

import pytest

from bootleg_client import AsyncClient, Client, Retry

from .listening import listening

QUICK = Retry(first_seconds=0.001, longest_seconds=0.01)


class _Blocking:
    """An :class:`AsyncClient` whose coroutines are run to their end."""

    def __init__(self, *arguments, **options):
        self._runner = asyncio.Runner()
        self._client = AsyncClient(*arguments, **options)

    def __getattr__(self, name):
        return lambda *arguments, **options: self._runner.run(getattr(self._client, name)(*arguments, **options))

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self._runner.run(self._client.close())
        self._runner.close()


@pytest.fixture(params=[Client, _Blocking], ids=["threads", "asyncio"])
def connect(request):
    """Make a client of either kind, with quick repetitions."""

    def connect(url, **options):
        return request.param(url, **{"retry": QUICK, **options})

    return connect


@pytest.fixture
def service():
    """A running service with default settings: its address and its faults."""
    with listening() as running:
        yield running
