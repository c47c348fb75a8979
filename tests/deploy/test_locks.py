"""The lock files of the images: they satisfy pyproject.toml, every line has hashes, and no registry is named."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
IMAGE = {"python_version": "3.11", "sys_platform": "linux", "platform_machine": "x86_64"}
LOCKS = {
    "cpu": ("cpu", "otel"),
    "gpu": ("gpu", "otel"),
    "training": ("cpu", "training", "export", "parquet", "tensorboard"),
}
_PIN = re.compile(r"^([A-Za-z0-9._-]+)==([^ ;\\]+)((?: *\\?\n +--hash=sha256:[0-9a-f]{64})*)", re.MULTILINE)


def pins(name: str) -> dict[str, tuple[str, int]]:
    """Version and number of hashes by name."""
    text = (ROOT / f"docker/requirements-{name}.lock").read_text(encoding="utf-8")
    found = {canonicalize_name(m[1]): (m[2], m[3].count("--hash=")) for m in _PIN.finditer(text)}
    assert len(found) == len(re.findall(r"^[A-Za-z0-9]", text, re.MULTILINE)), "a line that is no pin"
    return found


def wanted(extras: tuple[str, ...]) -> list[Requirement]:
    """What pyproject.toml asks for, with the extras that extras name."""
    project, queue, seen = PROJECT["project"], list(extras), set()
    found = [Requirement(line) for line in project["dependencies"]]
    while queue:
        extra = queue.pop()
        if extra in seen:
            continue
        seen.add(extra)
        for requirement in map(Requirement, project["optional-dependencies"][extra]):
            if requirement.name == project["name"]:
                queue += requirement.extras
            else:
                found.append(requirement)
    return [one for one in found if one.marker is None or one.marker.evaluate(IMAGE)]


@pytest.mark.parametrize("name", LOCKS)
def test_a_lock_satisfies_what_the_project_asks_for(name):
    have = pins(name)
    missing = [
        str(want)
        for want in wanted(LOCKS[name])
        if (pin := have.get(canonicalize_name(want.name))) is None or not want.specifier.contains(pin[0])
    ]
    assert not missing, f"`make lock`: docker/requirements-{name}.lock does not satisfy {missing}"


def test_the_build_backend_is_the_one_the_project_asks_for():
    have = pins("build")
    for want in map(Requirement, PROJECT["build-system"]["requires"]):
        assert want.specifier.contains(have[canonicalize_name(want.name)][0])


@pytest.mark.parametrize("name", ["build", *LOCKS])
def test_every_pin_has_hashes_and_none_names_a_place(name):
    assert all(hashes for _, hashes in pins(name).values())
    text = (ROOT / f"docker/requirements-{name}.lock").read_text(encoding="utf-8")
    assert not re.search(r"https?://|file:|--(extra-)?index|--find-links|--trusted", text)


def test_what_serves_is_locked_without_torch_and_with_one_runtime():
    assert {"torch", "triton", "onnx"}.isdisjoint(pins("cpu").keys() | pins("gpu").keys())
    for name, runtime in (("cpu", "onnxruntime"), ("gpu", "onnxruntime-gpu"), ("training", "onnxruntime")):
        assert {"onnxruntime", "onnxruntime-gpu"} & pins(name).keys() == {runtime}


def test_what_is_trained_with_is_the_release_that_the_makefile_installs():
    line = re.search(r"^TORCH \?= torch==(.+)$", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE)
    assert pins("training")["torch"][0] == line[1]
