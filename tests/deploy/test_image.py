"""The service's image: what is in it, what is not, and how large it is. Needs a Docker engine."""

from __future__ import annotations

import json

import pytest

from tests.deploy.stack import docker, inspect

pytestmark = pytest.mark.deploy

LARGEST = 400 * 2**20
"""Bytes beyond the base image."""


def python(image: str, script: str) -> str:
    return docker("run", "--rm", "--network", "none", "--read-only", "--entrypoint", "python3", image, "-c", script)


def test_it_adds_less_than_400_mb_to_its_base(image):
    size, base = inspect(image)["Size"], inspect("python:3.11-slim")["Size"]
    assert 0 < size - base < LARGEST, f"{(size - base) / 2**20:.0f} MiB"


def test_it_holds_neither_torch_nor_what_builds_it_nor_the_other_rooms(image):
    names = ["torch", "pip", "hatchling", "onnx", "bootleg_service", "bootleg_training.vit", "bootleg_export.build"]
    script = f"""
import importlib.util, json
def there(name):
    try: return importlib.util.find_spec(name) is not None
    except ModuleNotFoundError: return False
print(json.dumps([n for n in {names!r} if there(n)]))
"""
    assert json.loads(python(image, script)) == ["bootleg_service"]


def test_it_holds_exactly_what_the_lock_file_pins(image):
    script = """
import importlib.metadata, json
print(json.dumps([f"{d.name}=={d.version}" for d in importlib.metadata.distributions(path=[
    p for p in __import__("sys").path if p.startswith("/opt/bootleg")])]))
"""
    installed = {line.lower().replace("_", "-") for line in json.loads(python(image, script))}
    from tests.deploy.test_locks import pins

    ours = {line for line in installed if line.startswith("bootleg-vision==")}
    assert len(ours) == 1
    assert {f"{name}=={version}" for name, (version, _) in pins("cpu").items()} >= installed - ours
    assert {"onnxruntime", "fastapi", "pillow", "redis"} <= {line.partition("==")[0] for line in installed}


def test_it_runs_as_a_user_without_rights(image):
    config = inspect(image)["Config"]
    assert config["User"] == "10001"
    assert config["StopSignal"] == "SIGTERM"
    assert "/health/ready" in " ".join(config["Healthcheck"]["Test"])
    writable = """
import os
roots = ["/", "/etc", "/opt/bootleg", "/usr", "/var/lib"]
print(os.getuid(), [r for r in roots if os.access(r, os.W_OK)])
"""
    assert docker("run", "--rm", "--entrypoint", "python3", image, "-c", writable).split(maxsplit=1) == [
        "10001",
        "[]\n",
    ]


def test_its_command_is_bootleg(image):
    token, line = docker("run", "--rm", "--network", "none", "--read-only", image, "key", "alice").split("\n")[:2]
    assert line.startswith("alice")
    assert token not in line
