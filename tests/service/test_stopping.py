"""The end of a real process: asked for under load, and without any warning."""

import asyncio
import signal

import pytest

from bootleg_bundle.runtime_reports import SWITCHES

from .chaos.requests import post
from .chaos.wire import exchange
from .pictures import photo, shade
from .serving import EMBEDDINGS
from .test_cli import Server

pytestmark = pytest.mark.anyio


@pytest.fixture
def server(tmp_path, monkeypatch, tiny_bundle):
    """A service whose home, folder for temporary files and working directory are empty."""
    for name in ("HOME", "TMPDIR"):
        (tmp_path / name).mkdir()
        monkeypatch.setenv(name, str(tmp_path / name))
    for switch in SWITCHES:  # as for somebody who has never heard of them
        monkeypatch.delenv(switch, raising=False)
    monkeypatch.setenv("PYTHONDONTWRITEBYTECODE", "1")
    started = Server(tmp_path, "--bundle", str(tiny_bundle.path), "--device", "cpu")
    started.wait_until_ready()
    yield started
    started.end()


async def test_sigterm_under_load_answers_what_is_in_flight_and_exits_with_0(server):
    # Bodies of which half has arrived, byte by byte, when the signal comes.
    uploads = [post(EMBEDDINGS, shade(number), pause=0.02) for number in range(20)]
    tasks = [asyncio.create_task(exchange(server.port, upload)) for upload in uploads]
    await asyncio.sleep(1)
    assert not any(task.done() for task in tasks)
    server.process.send_signal(signal.SIGTERM)
    replies = await asyncio.gather(*tasks)
    assert [reply.status for reply in replies] == [200] * len(uploads)
    assert await asyncio.to_thread(server.process.wait, 60) == 0


async def test_the_service_writes_no_file(server, tmp_path, tiny_bundle):
    before = {file: file.read_bytes() for file in tiny_bundle.path.iterdir()}
    for message in (post(EMBEDDINGS, shade(1)), post(EMBEDDINGS, photo()[:500]), post(EMBEDDINGS, b"")):
        assert await exchange(server.port, message) is not None
    server.process.kill()
    server.process.wait()
    written = [file for file in tmp_path.rglob("*") if file.is_file()]
    assert [file.name for file in written] == ["log.txt"]  # what it printed, which this test wrote down
    assert {file: file.read_bytes() for file in tiny_bundle.path.iterdir()} == before
