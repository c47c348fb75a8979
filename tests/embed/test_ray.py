"""A real Ray cluster of two CPUs: kills on either side, and what must be there afterwards."""

import importlib.util
import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests import images
from tests.embed.ray_workers import BATCH, FATAL, PART_IMAGES

if importlib.util.find_spec("ray") is None:
    pytest.skip("needs bootleg-vision[ray]", allow_module_level=True)
parquet = pytest.importorskip("pyarrow.parquet", reason="needs bootleg-vision[parquet]")

ROOT = Path(__file__).parents[2]
COMMON = ("--device", "cpu", "--threads", "1", "--batch", str(BATCH))


@pytest.fixture(scope="module")
def environment():
    """Of drivers and, through the cluster, of workers: they import the tests too."""
    known = {"RAY_AUTH_MODE": "token", "RAY_USAGE_STATS_ENABLED": "0"}
    return {**os.environ, **known, "PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])}


@pytest.fixture(scope="module")
def cluster(environment):
    """The address of a cluster."""
    command = [sys.executable, "-m", "tests.embed.ray_run", "cluster"]
    with subprocess.Popen(command, stdin=-1, stdout=-1, stderr=subprocess.DEVNULL, text=True, env=environment) as held:
        yield held.stdout.readline().strip()
        held.stdin.close()
        held.wait(60)


@pytest.fixture
def embed(environment, tmp_path, tiny_bundle):
    """Run the command in a process of its own."""

    def run(source, out, *options):
        arguments = [source, "--out", out, "--bundle", tiny_bundle.path, *COMMON, *options]
        command = [sys.executable, "-m", "bootleg_cli", "embed", *map(str, arguments)]
        return subprocess.run(command, capture_output=True, text=True, check=False, env=environment, timeout=300)

    return run


@pytest.fixture
def driving(environment, tmp_path, tiny_bundle, cluster):
    """Begin a run whose actors die."""

    def begin(embedder, source, out):
        command = [sys.executable, "-m", "tests.embed.ray_run", "drive", embedder, cluster]
        command += map(str, (source, out, tiny_bundle.path))
        return subprocess.Popen(command, stdout=-1, stderr=-1, text=True, env=environment)

    return begin


@pytest.fixture
def single(pictures, tmp_path, embed):
    """What one machine makes of the pictures, three of which are no images."""
    (pictures / "0" / "broken.png").write_bytes(images.png()[:-30])
    (pictures / "1" / "nothing.jpg").write_bytes(b"")
    (pictures / "2" / "words.webp").write_bytes(b"no image")
    done = embed(pictures, tmp_path / "single.parquet", "--max-corrupt", "0.1")
    assert done.returncode == 3, done.stderr
    return parquet.read_table(tmp_path / "single.parquet").replace_schema_metadata(None)


def spread(cluster):
    return ["--engine", "ray", "--ray-address", cluster, "--part-images", str(PART_IMAGES), "--max-corrupt", "0.1"]


def rows(out):
    """All parts as one table, as any reader of a folder of parquet files sees them."""
    return parquet.read_table(out).replace_schema_metadata(None).combine_chunks().unify_dictionaries()


def content(out):
    return {path.name: path.read_bytes() for path in out.iterdir()}


def begun(folder, part):
    """The processes that began a part."""
    return [int(path.read_text()) for path in sorted(folder.glob(f"begun-{part}-*"))]


def check(out, single):
    assert rows(out).equals(single)
    faults = [json.loads(line) for line in (out / "_faults.jsonl").read_text().splitlines()]
    assert [fault["id"] for fault in faults] == ["0/broken.png", "1/nothing.jpg", "2/words.webp"]
    assert [single["id"][fault["row"]].as_py() for fault in faults] == [fault["id"] for fault in faults]
    assert not list(out.glob("*.unfinished"))


@pytest.mark.parametrize("embedder", ["DiesWithin", "DiesAfter"])
def test_a_worker_killed_at_a_part_loses_nothing_and_doubles_nothing(pictures, tmp_path, single, driving, embedder):
    with driving(embedder, pictures, tmp_path / "out") as process:
        said, errors = process.communicate(timeout=300)
    assert process.returncode == 0, errors
    assert said.startswith(f"{tmp_path / 'out'}: 51 rows in 7 parts, 3 failed, ")
    check(tmp_path / "out", single)
    first, second = begun(tmp_path, FATAL)
    assert first != second


def test_a_driver_killed_goes_on_with_the_missing_parts_and_gives_the_same_bytes(
    pictures, tmp_path, single, driving, embed, cluster
):
    out = tmp_path / "killed" / "out"
    out.parent.mkdir()
    with driving("Stalls", pictures, out) as process:
        while len(list(out.glob("part-*"))) < FATAL:
            assert process.poll() is None, process.communicate()
            time.sleep(0.05)
        process.send_signal(signal.SIGKILL)
    assert not (out / "_embed.json").exists()
    kept = {name: (out / name).stat().st_mtime_ns for name in ("part-000000.parquet", "part-000001.parquet")}
    done = embed(pictures, out, *spread(cluster))
    assert done.returncode == 3, done.stderr
    assert "going on after 16 of 51 images" in done.stderr
    check(out, single)
    assert {name: (out / name).stat().st_mtime_ns for name in kept} == kept
    whole = embed(pictures, tmp_path / "whole", *spread(cluster), "--workers", "1")
    assert whole.returncode == 3, whole.stderr
    assert content(out) == content(tmp_path / "whole")
    again = embed(pictures, out, *spread(cluster))
    assert again.returncode == 3
    assert again.stdout.rstrip().endswith("51 rows in 7 parts, 3 failed, complete already")


def test_a_signal_ends_it_at_once_and_says_how_to_go_on(pictures, tmp_path, driving):
    with driving("Stalls", pictures, tmp_path / "out") as process:
        while len(list((tmp_path / "out").glob("part-*"))) < FATAL:
            assert process.poll() is None, process.communicate()
            time.sleep(0.05)
        process.terminate()
        _, errors = process.communicate(timeout=120)
    assert process.returncode == 75, errors
    assert "run the same command again to go on" in errors
    assert "Traceback" not in errors


def test_without_an_address_a_cluster_is_started_here_and_stopped(pictures, tmp_path, embed):
    done = embed(pictures, tmp_path / "out", "--engine", "ray", "--workers", "2", "--part-images", "16")
    assert done.returncode == 0, done.stderr
    assert ": 48 rows in 3 parts, 0 failed, " in done.stdout
    assert "Traceback" not in done.stderr


def test_too_many_failed_images_are_one_line_and_a_higher_limit_goes_on(pictures, tmp_path, embed, cluster):
    for number in range(8):
        (pictures / f"{number}.png").write_bytes(b"no image")
    done = embed(pictures, tmp_path / "out", *spread(cluster))
    assert done.returncode == 2
    assert re.search(r"images failed, such as \d\.png: ", done.stderr.replace("\n", " "))
    assert "--max-corrupt 0.1 allows 5" in done.stderr.replace("\n", " ")
    assert embed(pictures, tmp_path / "out", *spread(cluster), "--max-corrupt", "0.5").returncode == 3


def test_what_a_worker_refuses_is_one_line(pictures, tmp_path, embed, cluster):
    done = embed(pictures, tmp_path / "out", *spread(cluster), "--precision", "int8")
    assert done.returncode == 2
    assert "int8" in done.stderr
    assert "Traceback" not in done.stderr


def test_an_address_where_nothing_listens_is_refused_at_once(pictures, tmp_path, embed):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
    done = embed(pictures, tmp_path / "out", *spread(address))
    assert done.returncode == 2
    assert f"--ray-address {address}: nothing listens there" in done.stderr.replace("\n", " ")


def test_more_than_the_cluster_has_is_refused(pictures, tmp_path, embed, cluster):
    done = embed(pictures, tmp_path / "out", *spread(cluster), "--gpus-per-worker", "1")
    assert done.returncode == 2
    assert "the cluster has 2 CPUs and 0 GPUs" in done.stderr.replace("\n", " ")
