"""The life of a process, on real ones: start, stop, and what those hear who ask meanwhile."""

import contextlib
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest

from tests.bundles import write_tiny_bundle

from .fake_engine import embedding_of
from .pictures import shade
from .redis_server import free_port
from .serving import EMBEDDINGS

ROOT = Path(__file__).parents[2]


class Process:
    """A server in a process of its own."""

    def __init__(self, folder, *command):
        self.port = free_port()
        self._log = folder / "log.txt"
        with self._log.open("wb") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", *command, "--port", str(self.port)], stdout=log, stderr=log, cwd=ROOT
            )

    @property
    def log(self):
        return self._log.read_text()

    def get(self, path, client=httpx):
        return client.get(f"http://127.0.0.1:{self.port}{path}", timeout=60)

    def embed(self, number=1):
        return httpx.post(f"http://127.0.0.1:{self.port}{EMBEDDINGS}", content=shade(number), timeout=60)

    def wait_for(self, path, status):
        for _ in range(2400):
            assert self.process.poll() is None, self.log
            with contextlib.suppress(httpx.TransportError):
                answer = self.get(path)
                if answer.status_code == status:
                    return answer
            time.sleep(0.025)
        raise AssertionError(f"{path} is not {status}:\n{self.log}")

    def kill(self, sig):
        self.process.send_signal(sig)

    def code(self):
        return self.process.wait(60)


@pytest.fixture
def run(tmp_path):
    started = []

    def run(*command):
        started.append(Process(tmp_path, *map(str, command)))
        return started[-1]

    yield run
    for one in started:
        if one.process.poll() is None:
            one.process.kill()
        one.process.wait()


@pytest.fixture
def held(run):
    """A server with a fake engine; arguments as in :mod:`held_server`."""
    return lambda *arguments: run("tests.service.held_server", *arguments)


def codes(answer):
    return [reason["code"] for reason in answer.json()["reasons"]]


def test_while_the_model_is_loaded_the_process_is_live_and_says_that_it_is_not_ready(held, tmp_path):
    server = held("--warm-when", tmp_path / "warm")
    answer = server.wait_for("/health/ready", 503)
    assert codes(answer) in (["starting"], ["warming"])
    assert server.get("/health/live").json() == {"status": "live"}
    assert server.get("/health/started").status_code == 503
    refused = server.embed()
    assert (refused.status_code, refused.json()["error"]["code"]) == (503, "unavailable")
    assert refused.headers["Retry-After"] == "1"
    assert server.get("/v1/models").status_code == 503
    assert server.get("/v2/health/live").status_code == 200
    (tmp_path / "warm").touch()
    server.wait_for("/health/started", 200)
    assert server.get("/health/ready").json() == {"status": "ready"}
    assert server.embed().status_code == 200


def test_a_stop_while_the_model_is_loaded_ends_the_process_at_once_with_0(held, tmp_path):
    server = held("--warm-when", tmp_path / "never")
    server.wait_for("/health/live", 200)
    server.kill(signal.SIGTERM)
    assert server.code() == 0, server.log


@pytest.mark.parametrize("sig", [signal.SIGTERM, signal.SIGINT])
def test_a_stop_turns_readiness_red_while_requests_are_still_answered_and_ends_with_0(held, sig):
    server = held("--grace", 3)
    server.wait_for("/health/ready", 200)
    server.kill(sig)
    answer = server.wait_for("/health/ready", 503)
    assert codes(answer) == ["draining"]
    assert server.get("/health/live").status_code == 200
    answer = server.embed(2)
    assert answer.status_code == 200
    assert answer.json()["data"][0]["embedding"] == pytest.approx(embedding_of(2).tolist())
    assert server.code() == 0, server.log
    with pytest.raises(httpx.TransportError):
        server.embed()
    assert "Traceback" not in server.log


def test_what_is_in_flight_past_the_bound_gets_our_503_and_the_process_ends_with_0(held):
    server = held("--hold", "--drain", 1)
    server.wait_for("/health/ready", 200)
    with ThreadPoolExecutor(3) as pool:
        waiting = [pool.submit(server.embed, number) for number in range(3)]
        server_sees(server, 3)
        server.kill(signal.SIGTERM)
        for one in waiting:
            answer = one.result(60)
            assert answer.status_code == 503
            error = answer.json()["error"]
            assert error["code"] == "unavailable"
            assert "shutting down" in error["message"]
            assert error["request_id"] == answer.headers["X-Request-ID"]
    assert server.code() == 0, server.log
    assert "left behind" in server.log, "the call of the model never returned"
    assert "Traceback" not in server.log


def server_sees(server, images):
    """Wait until so many images are on the device or queued."""
    for _ in range(1200):
        text = server.get("/metrics").text
        gauges = dict(line.rsplit(" ", 1) for line in text.splitlines() if not line.startswith("#"))
        running = 'bootleg_stage_seconds_count{stage="decode"}'
        if float(gauges.get(running, 0)) >= images:
            return
        time.sleep(0.025)
    raise AssertionError("the images have not arrived")


@pytest.mark.parametrize("second", [signal.SIGTERM, signal.SIGINT])
def test_a_second_signal_ends_the_process_at_once_with_its_number_and_128(held, second):
    server = held("--grace", 60)
    server.wait_for("/health/ready", 200)
    server.kill(signal.SIGTERM)
    server.wait_for("/health/ready", 503)
    server.kill(second)
    assert server.code() == 128 + second
    assert "second signal" in server.log


def test_sighup_reloads_and_a_bundle_that_cannot_be_served_leaves_the_old_one_serving(run, tmp_path):
    for scale in (1, 2):
        write_tiny_bundle(tmp_path / f"v{scale}", scale=scale)
    (tmp_path / "current").symlink_to("v1")
    server = run("bootleg_cli", "serve", "--bundle", tmp_path / "current", "--threads", 1, "--drain-grace-seconds", 0)
    server.wait_for("/health/ready", 200)
    first = server.embed().headers["X-Embedding-Space"]

    def reload(version):
        (tmp_path / "next").symlink_to(version)
        (tmp_path / "next").replace(tmp_path / "current")
        server.kill(signal.SIGHUP)

    reload("nowhere")
    counted(server, 'bootleg_reloads_total{outcome="failed"}')
    assert server.embed().headers["X-Embedding-Space"] == first
    reload("v2")
    counted(server, 'bootleg_reloads_total{outcome="reloaded"}')
    answer = server.embed()
    assert answer.status_code == 200
    assert answer.headers["X-Embedding-Space"] != first
    server.kill(signal.SIGTERM)
    assert server.code() == 0, server.log


def counted(server, sample):
    for _ in range(1200):
        if f"{sample} 1.0" in server.get("/metrics").text:
            return
        time.sleep(0.025)
    raise AssertionError(f"no {sample}:\n{server.log}")


def test_two_bundles_are_served_by_the_command_line(run, tmp_path):
    for name in ("one", "two"):
        write_tiny_bundle(tmp_path / name, name=name)
    both = ("--bundle", tmp_path / "one", "--bundle", tmp_path / "two")
    server = run("bootleg_cli", "serve", *both, "--threads", 1, "--drain-grace-seconds", 0)
    server.wait_for("/health/ready", 200)
    assert [model["id"] for model in server.get("/v1/models").json()["data"]] == ["one", "two"]
    assert server.embed().json()["model"] == "one"


def test_bundles_of_one_name_end_the_start_with_a_line_and_2(run, tmp_path):
    for place in ("here", "there"):
        write_tiny_bundle(tmp_path / place)
    server = run("bootleg_cli", "serve", "--bundle", tmp_path / "here", "--bundle", tmp_path / "there")
    assert server.code() == 2
    assert "both named 'tiny'" in server.log
    assert "Traceback" not in server.log
