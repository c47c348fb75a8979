"""Through a running service: the real application on a socket, and a real process that is killed and comes back."""

import json
import re
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
from click.testing import CliRunner

from bootleg_cli import main
from bootleg_embed.cli import SOME_FAILED, STOPPED
from tests import images
from tests.client.listening import answer, envelope, listening
from tests.service.fake_engine import DIM, GRID, SPACE, embedding_of
from tests.service.pictures import shade
from tests.service.test_cli import Server


@pytest.fixture
def shades(tmp_path):
    """A folder of 100 shades."""
    folder = tmp_path / "shades"
    folder.mkdir()
    for number in range(100):
        (folder / f"{number:03}.png").write_bytes(shade(number))
    return folder


def embed(source, out, url, *options):
    return CliRunner().invoke(
        main, ["embed", str(source), "--out", str(out), "--url", url, *map(str, options)], catch_exceptions=False
    )


def test_vectors_come_from_the_service_and_are_pinned_to_its_space(shades, tmp_path):
    (shades / "050.png").write_bytes(b"broken")
    with listening(limits__max_images=3) as (url, faults):
        result = embed(shades, tmp_path / "a.npy", url, "--api-key", "k-1")
    assert result.exit_code == SOME_FAILED, result.output
    vectors = np.load(tmp_path / "a.npy")
    for number in range(100):
        if number == 50:
            assert np.isnan(vectors[number]).all()
        else:
            np.testing.assert_array_equal(vectors[number], embedding_of(number))
    failed = [json.loads(line) for line in (tmp_path / "a.items.jsonl").read_text().splitlines() if "failed" in line]
    assert [(item["id"], item["code"]) for item in failed] == [("050.png", "unsupported_image_format")]
    assert {request["x-embedding-space"] for request in faults.posts} == {SPACE}
    assert {request["authorization"] for request in faults.seen} == {"Bearer k-1"}
    assert json.loads((tmp_path / "a.json").read_text())["identity"]["embedding_space"] == SPACE


def test_patches(shades, tmp_path):
    with listening() as (url, _):
        assert embed(shades, tmp_path / "a.npy", url, "--output", "patches", "--dtype", "float16").exit_code == 0
    assert np.load(tmp_path / "a.npy").shape == (100, *GRID, DIM)


def test_layers_are_refused(shades, tmp_path):
    with listening() as (url, _):
        result = embed(shades, tmp_path / "a.npy", url, "--output", "layers")
    assert result.exit_code == 2
    assert "without --url" in result.stderr


def test_a_service_overloaded_for_a_while_costs_nothing(shades, tmp_path):
    with listening(limits__max_images=8) as (url, faults):
        faults.script = [answer(status, envelope("overloaded"), retry_after="0.01") for status in (429, 503) * 4]
        result = embed(shades, tmp_path / "a.npy", url)
    assert result.exit_code == 0, result.output
    np.testing.assert_array_equal(np.load(tmp_path / "a.npy"), np.stack([embedding_of(n) for n in range(100)]))


@pytest.mark.parametrize("key", ["wrong", None])
def test_a_wrong_key_is_one_line_and_exit_2(shades, tmp_path, key):
    with listening() as (url, faults):
        faults.key = "right"
        result = embed(shades, tmp_path / "a.npy", url, *(("--api-key", key) if key else ()))
    assert result.exit_code == 2
    assert result.stderr.count("\n") == 1
    assert len(faults.seen) == 1


def test_nobody_listens_and_the_exit_code_says_that_it_may_pass(shades, tmp_path):
    result = embed(shades, tmp_path / "a.npy", "http://127.0.0.1:9", "--wait-seconds", "1")
    assert result.exit_code == STOPPED
    assert "run the same command again" in result.stderr


def test_a_space_that_changes_midway_stops_it(shades, tmp_path):
    with listening() as (url, faults):
        faults.script = [answer(409, envelope("embedding_space_mismatch"))]
        result = embed(shades, tmp_path / "a.npy", url)
    assert result.exit_code == 2
    assert result.stderr.count("\n") == 1


def test_a_service_that_is_killed_midway_and_comes_back(tmp_path, tiny_bundle):
    folder = tmp_path / "pictures"
    folder.mkdir()
    for number in range(600):
        (folder / f"{number:03}.png").write_bytes(images.png(images.scene(64, 64, seed=number)))
    server = Server(tmp_path, "--bundle", str(tiny_bundle.path), "--cache-bytes", "0", "--device", "cpu")
    command = [sys.executable, "-m", "bootleg_cli", "embed", folder, "--out", tmp_path / "a.npy"]
    command += ["--url", f"http://127.0.0.1:{server.port}", "--wait-seconds", "300"]
    again = None
    try:
        server.wait_until_ready()
        process = subprocess.Popen(list(map(str, command)), stderr=subprocess.PIPE, text=True)
        while not re.search(r'route="/v1/images/embeddings"', _metrics(server)):
            time.sleep(0.01)
        server.process.send_signal(signal.SIGKILL)
        server.process.wait()
        assert process.poll() is None, "it was done before the service was killed"
        again = _at_the_same_port(server, tmp_path / "again", tiny_bundle)
        _, errors = process.communicate(timeout=300)
        assert process.returncode == 0, errors
    finally:
        server.end()
        if again is not None:
            again.end()
    vectors = np.load(tmp_path / "a.npy")
    local = CliRunner().invoke(
        main, ["embed", str(folder), "--out", str(tmp_path / "b.npy"), "--bundle", str(tiny_bundle.path)]
    )
    assert local.exit_code == 0, local.output
    np.testing.assert_allclose(vectors, np.load(tmp_path / "b.npy"), rtol=1e-5)


def _metrics(server):
    import httpx

    return httpx.get(f"http://127.0.0.1:{server.port}/metrics").text


def _at_the_same_port(server, folder, bundle):
    folder.mkdir()
    again = Server.__new__(Server)
    again.port, again._log = server.port, folder / "log.txt"
    command = [sys.executable, "-m", "bootleg_cli", "serve", "--port", str(server.port), "--bundle", str(bundle.path)]
    with again._log.open("wb") as log:
        again.process = subprocess.Popen([*command, "--device", "cpu"], stdout=log, stderr=log)
    return again
