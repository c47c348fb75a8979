"""The training image, on the CPU. Several gigabytes, so it is built by hand: ``docker-compose build train``."""

from __future__ import annotations

import io
import json
import subprocess

import numpy as np
import pytest
from PIL import Image

from tests.deploy.stack import docker, inspect
from tests.deploy.test_locks import pins

pytestmark = pytest.mark.deploy

IMAGE = "bootleg-vision-training"


@pytest.fixture(scope="module")
def image(engine):
    """Its name; skips where nobody has built it."""
    if subprocess.run(["docker", "image", "inspect", IMAGE], capture_output=True, check=False).returncode:
        pytest.skip(f"{IMAGE} is not there: docker-compose build train")
    return IMAGE


@pytest.fixture
def runs():
    """A volume of the test's own."""
    name = docker("volume", "create").strip()
    yield name
    docker("volume", "rm", name)


def test_it_holds_the_torch_of_the_lock_file_and_no_root(image):
    version = docker("run", "--rm", "--entrypoint", "python3", image, "-c", "import torch; print(torch.__version__)")
    assert version.strip().partition("+")[0] == pins("training")["torch"][0]
    assert inspect(image)["Config"]["User"] == "10001"


def test_it_trains_and_exports_confined_as_the_compose_file_confines_it(image, runs, tmp_path):
    rng = np.random.default_rng(0)
    for i in range(40):
        file = io.BytesIO()
        Image.fromarray(rng.integers(0, 256, (48, 48, 3), np.uint8)).save(file, "PNG")
        (tmp_path / f"{i}.png").write_bytes(file.getvalue())
    tmp_path.chmod(0o755)
    confined = ["--rm", "--network", "none", "--read-only", "--cap-drop", "ALL", "--security-opt", "no-new-privileges"]
    folders = ["--tmpfs", "/tmp:exec,mode=1777", "-v", f"{tmp_path}:/data:ro", "-v", f"{runs}:/runs"]

    def bootleg(*arguments: str) -> None:
        docker("run", *confined, *folders, image, *arguments)

    size = ["--set=images=16", "--set=batch_size=8"]
    bootleg("train", "--data", "/data", "--out", "/runs/first", "--preset", "cpu-smoke", "--device", "cpu", *size)
    bootleg("export", "/runs/first/checkpoint", "--out", "/runs/bundle")
    shown = docker("run", *confined, *folders, "--entrypoint", "cat", image, "/runs/bundle/manifest.json")
    assert json.loads(shown)["embedding_space"].startswith("es1-")
