"""docker-compose on a project of the tests' own, and what its containers say about themselves."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
PORT, SCALE_PORT = 18_000, 18_080
PATIENCE = 180
"""Seconds after which something that must happen is said not to have happened."""


def engine_is_absent() -> str:
    """Why these tests cannot run here, or nothing."""
    if not shutil.which("docker-compose"):
        return "needs docker-compose"
    if subprocess.run(["docker", "info"], capture_output=True, check=False).returncode:
        return "needs a Docker engine, and none answers here"
    return ""


def docker(*arguments: str) -> str:
    """Run the docker command.

    Raises:
        AssertionError: it failed.
    """
    return _run(["docker", *arguments], {})


def until(condition, what: str):
    """Ask again and again; the first answer that counts as true."""
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline:
        try:
            found = condition()
        except OSError:
            found = None
        if found:
            return found
        time.sleep(0.2)
    raise AssertionError(f"within {PATIENCE} s not so: {what}")


class Stack:
    """One compose project.

    Args:
        name: of the project.
        store: what is mounted as ``/store``.
        profile: one that is on besides.
        environment: of docker-compose, as ``.env`` would give it.
    """

    def __init__(self, name: str, store: Path, *, profile: str | None = None, **environment: str) -> None:
        self.name = name
        self._profile = ["--profile", profile] if profile else []
        self.environment = {
            "PORT": str(PORT),
            "SCALE_PORT": str(SCALE_PORT),
            "STORE": str(store),
            "REPLICAS": "3",
            **environment,
        }

    def compose(self, *arguments: str) -> str:
        """Run docker-compose on this project."""
        return _run(["docker-compose", "--project-name", self.name, *self._profile, *arguments], self.environment)

    def containers(self, service: str) -> list[str]:
        """Ids of a service's running containers."""
        return self.compose("ps", "-q", service).split()

    def down(self) -> None:
        """Remove it with all it has."""
        self.compose("down", "--volumes", "--timeout", "30")

    def inside(self, service: str, script: str) -> str:
        """What a Python script prints in a service's container."""
        return self.compose("exec", "-T", service, "python3", "-c", script).strip()

    def logs(self) -> str:
        """The last lines of all."""
        return self.compose("logs", "--tail", "30")


def inspect(container: str) -> dict[str, Any]:
    """What the engine knows of a container or image."""
    return json.loads(docker("inspect", container))[0]


def healthy(container: str) -> bool:
    """Whether its own health check has passed."""
    return inspect(container)["State"]["Health"]["Status"] == "healthy"


def get(url: str, **headers: str) -> tuple[int, str]:
    """Status and body; an error's as well."""
    return _ask(urllib.request.Request(url, headers=headers))[::2]


def post(url: str, data: bytes, **headers: str) -> tuple[int, dict[str, str], Any]:
    """Status, headers by lower-case name, and the body from JSON."""
    headers.setdefault("Content-Type", "application/octet-stream")
    status, found, body = _ask(urllib.request.Request(url, data=data, headers=headers))
    return status, found, json.loads(body)


def _ask(request: urllib.request.Request) -> tuple[int, dict[str, str], str]:
    try:
        answer = urllib.request.urlopen(request, timeout=90)
    except urllib.error.HTTPError as error:
        answer = error
    with answer:
        return answer.status, {k.lower(): v for k, v in answer.headers.items()}, answer.read().decode()


def _run(command: list[str], environment: dict[str, str]) -> str:
    # Settings of the person who runs the tests are not the tests' settings.
    inherited = {k: v for k, v in os.environ.items() if not k.startswith(("BOOTLEG_", "COMPOSE_"))}
    done = subprocess.run(
        command,
        cwd=ROOT,
        env={**inherited, **environment, "DOCKER_BUILDKIT": "0"},
        capture_output=True,
        text=True,
        check=False,
        timeout=1800,
    )
    assert done.returncode == 0, f"{' '.join(command)}\n{done.stdout[-4000:]}\n{done.stderr[-4000:]}"
    return done.stdout
