"""docker-compose.yml as it is without a profile: service and Redis. Needs a Docker engine."""

from __future__ import annotations

import io
import json
import re
import socket
from concurrent.futures import ThreadPoolExecutor

import pytest
from PIL import Image

from tests.deploy.stack import PORT, Stack, docker, get, healthy, inspect, post, until
from tests.realdata import photographs

pytestmark = pytest.mark.deploy

URL = f"http://127.0.0.1:{PORT}"
EMBED = f"{URL}/v1/images/embeddings"


@pytest.fixture(scope="module")
def stack(image, store):
    """Service and Redis, ready. No cache in the process, so that Redis is seen; patience, for a busy machine."""
    running = Stack("bootleg-test", store, SERVICE_IMAGE=image, BOOTLEG_CACHE_BYTES="0", BOOTLEG_REQUEST_SECONDS="60")
    try:
        running.compose("up", "--detach")
        until(lambda: get(f"{URL}/health/ready")[0] == 200, "the service is ready")
        yield running
    finally:
        running.down()


def metric(pattern: str) -> float:
    found = re.findall(rf"^{pattern} (\S+)$", get(f"{URL}/metrics")[1], re.MULTILINE)
    return sum(map(float, found))


HITS = r'bootleg_cache_lookups_total\{result="hit",store="redis"\}'
ERRORS = r'bootleg_cache_errors_total\{[^}]*store="redis"[^}]*\}'


def in_redis(stack) -> int:
    return int(stack.compose("exec", "-T", "redis", "redis-cli", "dbsize"))


def test_photographs_are_embedded_and_the_second_time_redis_answers(stack):
    photos = photographs(5)
    stack.compose("exec", "-T", "redis", "redis-cli", "flushall")
    before = metric(HITS)
    first = [post(EMBED, photo) for photo in photos]
    until(lambda: in_redis(stack) == len(photos), "all results are in Redis")  # stored behind the answer
    second = [post(EMBED, photo) for photo in photos]
    assert [status for status, _, _ in first + second] == [200] * 10
    assert [headers["x-cache"] for _, headers, _ in first] == ["miss"] * 5
    assert [headers["x-cache"] for _, headers, _ in second] == ["hit"] * 5
    assert metric(HITS) == before + 5
    assert [body["data"] for _, _, body in first] == [body["data"] for _, _, body in second]
    assert len({json.dumps(body["data"]) for _, _, body in first}) == 5


def test_only_the_service_is_published_and_only_to_this_machine(stack):
    published = {name: inspect(stack.containers(name)[0])["NetworkSettings"]["Ports"] for name in ("service", "redis")}
    assert published["service"] == {"8000/tcp": [{"HostIp": "127.0.0.1", "HostPort": str(PORT)}]}
    assert not any((published["redis"] or {}).values())


def test_redis_has_no_way_out(stack):
    networks = inspect(stack.containers("redis")[0])["NetworkSettings"]["Networks"]
    assert [json.loads(docker("network", "inspect", name))[0]["Internal"] for name in networks] == [True]


@pytest.mark.parametrize("name", ["service", "redis"])
def test_a_container_has_no_rights_no_disk_and_a_bound_on_memory(stack, name):
    state = inspect(stack.containers(name)[0])
    status = stack.compose("exec", "-T", name, "cat", "/proc/1/status")
    assert re.search(r"^CapEff:\s0+$", status, re.MULTILINE)
    assert re.search(r"^NoNewPrivs:\s1$", status, re.MULTILINE)
    assert not re.search(r"^Uid:\s0", status, re.MULTILINE)
    assert state["HostConfig"]["ReadonlyRootfs"]
    assert 0 < state["HostConfig"]["Memory"] < 2**32
    assert 0 < state["HostConfig"]["PidsLimit"] < 1000


def test_the_service_can_write_to_its_tmp_and_nowhere_else(stack):
    script = """
import pathlib
for folder in ("/tmp", "/", "/opt/bootleg", "/store", "/var/cache/bootleg-vision/engines"):
    try: (pathlib.Path(folder) / "x").write_text("x"); print(folder)
    except OSError: pass
"""
    assert stack.inside("service", script) == "/tmp"


def test_redis_evicts_and_keeps_nothing_on_disk(stack):
    def config(name: str) -> str:
        return stack.compose("exec", "-T", "redis", "redis-cli", "config", "get", name).split("\n")[1].strip()

    assert config("maxmemory-policy") == "allkeys-lru"
    limit = inspect(stack.containers("redis")[0])["HostConfig"]["Memory"]
    assert 0 < int(config("maxmemory")) < limit
    assert (config("save"), config("appendonly")) == ("", "no")


def test_a_frozen_redis_costs_no_answer_and_soon_nothing(stack, picture):
    errors = metric(ERRORS)
    stack.compose("pause", "redis")
    try:
        answers = [post(EMBED, picture + bytes([1, i])) for i in range(30)]
    finally:
        stack.compose("unpause", "redis")
    assert {(status, headers["x-cache"]) for status, headers, _ in answers} == {(200, "miss")}
    # Each request would look up and store: 60 faults, did the breaker not stop calling after a few.
    assert 0 < metric(ERRORS) - errors < 30
    again = picture + b"frozen before"
    until(lambda: post(EMBED, again)[1]["x-cache"] == "hit", "Redis is used again")


def test_a_killed_redis_costs_no_answer_and_its_return_is_noticed(stack, picture):
    docker("kill", stack.containers("redis")[0])
    answers = [post(EMBED, picture + bytes([2, i])) for i in range(5)]
    assert {(status, headers["x-cache"]) for status, headers, _ in answers} == {(200, "miss")}
    stack.compose("start", "redis")
    again = picture + b"killed before"
    until(lambda: post(EMBED, again)[1]["x-cache"] == "hit", "Redis is used again")


def test_the_service_starts_without_redis_and_uses_it_when_it_comes(stack, picture):
    stack.compose("stop", "redis", "service")
    stack.compose("up", "--detach", "--no-deps", "service")
    until(lambda: get(f"{URL}/health/ready")[0] == 200, "the service is ready without Redis")
    status, headers, _ = post(EMBED, picture)
    assert (status, headers["x-cache"]) == (200, "miss")
    stack.compose("start", "redis")
    until(lambda: post(EMBED, picture + b"early")[1]["x-cache"] == "hit", "Redis is used")


def test_the_largest_images_there_may_be_fit_its_memory(stack, picture):
    file = io.BytesIO()
    with Image.open(io.BytesIO(picture)) as photo:
        photo.convert("RGB").resize((8160, 6120)).save(file, "JPEG", quality=80)  # 49.9 of 50 million pixels
    container = stack.containers("service")[0]
    begun = inspect(container)["State"]["StartedAt"]
    with ThreadPoolExecutor(2) as callers:  # as many as decode at a time
        answers = list(callers.map(lambda i: post(EMBED, file.getvalue() + bytes([i]))[0], range(4)))
    assert answers == [200] * 4
    after = inspect(container)["State"]
    assert not after["OOMKilled"]
    assert after["StartedAt"] == begun
    assert post(EMBED, picture)[0] == 200


def test_a_process_that_ends_is_started_again(stack, picture):
    container = stack.containers("service")[0]
    begun = inspect(container)["RestartCount"]
    stack.inside("service", "import os, signal; os.kill(1, signal.SIGTERM)")
    until(lambda: inspect(container)["RestartCount"] > begun, "the engine restarted the process")
    until(lambda: get(f"{URL}/health/ready")[0] == 200, "the service is ready again")
    assert post(EMBED, picture)[0] == 200


def test_a_stop_answers_what_is_in_flight_and_exits_with_0(stack, picture):
    container = stack.containers("service")[0]
    half = len(picture) // 2
    with socket.create_connection(("127.0.0.1", PORT), timeout=30) as caller:
        head = f"POST /v1/images/embeddings HTTP/1.1\r\nHost: x\r\nContent-Length: {len(picture)}\r\n\r\n"
        caller.sendall(head.encode() + picture[:half])
        until(lambda: get(f"{URL}/health/live")[0] == 200, "the service has had time to read the first half")
        docker("kill", "--signal", "TERM", container)  # returns when the signal is delivered
        caller.sendall(picture[half:])
        answer = b"".join(iter(lambda: caller.recv(65536), b""))
    assert answer.startswith(b"HTTP/1.1 200 "), answer[:500]
    assert json.loads(answer.partition(b"\r\n\r\n")[2])["data"][0]["embedding"]
    assert docker("wait", container).strip() == "0"
    stack.compose("start", "service")
    until(lambda: get(f"{URL}/health/ready")[0] == 200, "the service is ready again")


def test_everything_restarts_and_answers_as_before(stack, picture):
    before = post(EMBED, picture)[2]["data"]
    stack.compose("restart")
    until(lambda: get(f"{URL}/health/ready")[0] == 200, "the service is ready again")
    until(lambda: healthy(stack.containers("service")[0]), "the service's health check passes")
    until(lambda: healthy(stack.containers("redis")[0]), "Redis's health check passes")
    after = post(EMBED, picture)[2]["data"]
    assert after[0]["embedding"] == pytest.approx(before[0]["embedding"], rel=1e-4, abs=1e-4)
