"""docker-compose.yml, built and run for real. Needs a Docker engine: ``make test-deploy``."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import time
import urllib.error
import urllib.request
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PHOTO = ROOT / "service/bootleg_service/example.jpg"
PORT = 18_000
URL = f"http://127.0.0.1:{PORT}"
START_SECONDS = 120

pytestmark = pytest.mark.deploy


def compose(*arguments: str) -> str:
    """Run docker-compose on a project of the tests' own."""
    command = ["docker-compose", "--project-name", "bootleg-test", *arguments]
    environment = {**os.environ, "PORT": str(PORT), "DOCKER_BUILDKIT": "0"}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{' '.join(command)}\n{done.stdout[-4000:]}\n{done.stderr[-4000:]}"
    return done.stdout


@pytest.fixture(scope="module", autouse=True)
def stack():
    """Service and Redis, ready."""
    if not shutil.which("docker-compose") or _docker_is_absent():
        pytest.skip("no Docker engine on this machine")
    compose("up", "--build", "--detach")
    try:
        deadline = time.monotonic() + START_SECONDS
        while time.monotonic() < deadline:
            try:
                if get("/health/ready"):
                    break
            except OSError:
                time.sleep(1)
        else:
            pytest.fail(f"not ready after {START_SECONDS} s:\n{compose('logs', '--tail', '50')}")
        yield
    finally:
        compose("down", "--volumes")


def _docker_is_absent() -> bool:
    return subprocess.run(["docker", "info"], capture_output=True, check=False).returncode != 0


def get(path: str) -> str:
    with urllib.request.urlopen(URL + path, timeout=5) as answer:
        return answer.read().decode()


def post(data: bytes) -> tuple[dict, dict[str, str]]:
    request = urllib.request.Request(f"{URL}/v1/images/embeddings", data=data)
    with urllib.request.urlopen(request, timeout=30) as answer:
        return json.load(answer), dict(answer.headers)


def hits() -> float:
    line = re.search(r'bootleg_cache_lookups_total\{result="hit",store="redis"\} (\S+)', get("/metrics"))
    return float(line[1]) if line else 0.0


def test_the_second_identical_post_is_a_redis_hit():
    compose("exec", "-T", "redis", "redis-cli", "flushall")
    before = hits()
    first, first_headers = post(PHOTO.read_bytes())
    deadline = time.monotonic() + 10  # results are stored behind the answer
    while compose("exec", "-T", "redis", "redis-cli", "dbsize").strip() == "0" and time.monotonic() < deadline:
        time.sleep(0.1)
    second, second_headers = post(PHOTO.read_bytes())
    assert (first_headers["x-cache"], second_headers["x-cache"]) == ("miss", "hit")
    assert hits() == before + 1
    assert first["data"] == second["data"]


def test_the_service_runs_as_nobody_on_a_read_only_root_without_torch():
    assert compose("exec", "-T", "service", "id", "-u").strip() == "10001"
    script = (
        "import importlib.util, pathlib\n"
        "print(importlib.util.find_spec('torch'))\n"
        "try: pathlib.Path('/opt/x').touch()\n"
        "except OSError as e: print(type(e).__name__)"
    )
    out = compose("exec", "-T", "service", "python3", "-c", script).split()
    assert out[0] == "None"
    assert out[1] in {"OSError", "PermissionError"}


def test_the_service_answers_while_redis_is_gone():
    compose("stop", "redis")
    try:
        answer, headers = post(PHOTO.read_bytes() + b"\0")  # other bytes, same picture
        assert headers["x-cache"] == "miss"
        assert len(answer["data"][0]["embedding"]) > 1
    finally:
        compose("start", "redis")
