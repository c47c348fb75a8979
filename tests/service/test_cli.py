import contextlib
import hashlib
import json
import os
import re
import shlex
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import httpx
import pytest
from click.testing import CliRunner

from bootleg_cli import main
from bootleg_service import cli
from bootleg_service.cli import curl_line
from bootleg_service.errors import StartupError
from bootleg_service.lifecycle import DEVICE_FAILED
from tests.bundles import write_tiny_bundle

from .redis_server import free_port


class Server:
    """A ``bootleg serve`` of its own."""

    def __init__(self, folder, *arguments):
        self.port = free_port()
        self._log = folder / "log.txt"
        command = [sys.executable, "-m", "bootleg_cli", "serve", "--port", str(self.port), "--threads", "1", *arguments]
        with self._log.open("wb") as log:
            environment = {name: value for name, value in os.environ.items() if not name.startswith("BOOTLEG_")}
            self.process = subprocess.Popen(command, stdout=log, stderr=log, env=environment)

    @property
    def log(self):
        return self._log.read_text()

    def wait_until_ready(self):
        for _ in range(1200):
            assert self.process.poll() is None, self.log
            with contextlib.suppress(httpx.TransportError):
                if httpx.get(f"http://127.0.0.1:{self.port}/health/ready").status_code == 200:
                    return
            time.sleep(0.05)
        raise AssertionError(f"not ready:\n{self.log}")

    def end(self):
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()


@pytest.fixture
def serve(tmp_path):
    servers = []

    def serve(*arguments):
        servers.append(Server(tmp_path, *map(str, arguments)))
        return servers[-1]

    yield serve
    for server in servers:
        server.end()


def test_the_curl_line_that_is_printed_embeds_a_photograph_and_sigterm_ends_the_service_with_0(serve, exported_bundle):
    server = serve("--bundle", exported_bundle, "--log-format", "text", "--drain-grace-seconds", 0)
    server.wait_until_ready()
    (line,) = re.findall(r"^\s*(curl .*)$", server.log, re.MULTILINE)
    done = subprocess.run(["bash", "-c", line], capture_output=True, check=True, timeout=60)
    answer = httpx.Response(200, content=done.stdout).json()
    assert len(answer["data"][0]["embedding"]) == 32
    assert answer["model"] == "tiny"
    server.process.send_signal(signal.SIGTERM)
    assert server.process.wait(60) == 0, server.log
    assert "Traceback" not in server.log


def test_the_log_is_json_where_no_terminal_is_and_every_line_of_it(serve, exported_bundle):
    server = serve("--bundle", exported_bundle)
    server.wait_until_ready()
    answer = httpx.post(f"http://127.0.0.1:{server.port}/v1/images/embeddings", content=b"")
    text = httpx.get(f"http://127.0.0.1:{server.port}/metrics").text
    assert "process_resident_memory_bytes" in text
    assert "_created" not in text
    server.process.send_signal(signal.SIGTERM)
    server.process.wait(60)
    lines = [json.loads(line) for line in server.log.splitlines()]
    (request,) = [line for line in lines if line["logger"] == "bootleg.request"]
    assert request["outcome"] == "empty_image"
    assert request["request_id"] == answer.headers["x-request-id"]
    assert "uvicorn.error" in {line["logger"] for line in lines}


def test_a_device_or_precision_that_cannot_be_had_ends_the_start_with_its_reason(serve, exported_bundle):
    server = serve("--bundle", exported_bundle, "--precision", "fp16")
    assert server.process.wait(60) != 0
    assert "precision = 'fp16': the bundle tiny has fp32" in server.log


def test_a_directory_that_is_no_bundle_is_one_line_and_exit_2(tmp_path):
    result = CliRunner().invoke(main, ["serve", "--bundle", str(tmp_path)])
    assert result.exit_code == 2
    assert result.output.splitlines() == [f"Error: {tmp_path} is no bundle: it has no manifest.json"]


@pytest.mark.parametrize(
    "options",
    [
        ("--port", "70000"),
        ("--device", "gpu"),
        ("--max-batch", "0"),
        ("--threads", "-1"),
        ("--max-image-bytes", "0"),
        ("--cache-bytes", "-1"),
        ("--log-level", "loud"),
        ("--decode-threads", "many"),
    ],
)
def test_an_option_out_of_bounds_is_refused_by_name(options):
    result = CliRunner().invoke(main, ["serve", *options])
    assert result.exit_code == 2
    assert options[0] in result.output


def test_the_environment_sets_what_the_options_do_not(tmp_path):
    environment = {"BOOTLEG_BUNDLE": str(tmp_path / "from-environment")}
    assert "from-environment" in CliRunner(env=environment).invoke(main, ["serve"]).output
    chosen = ["serve", "--bundle", str(tmp_path / "from-option")]
    assert "from-option" in CliRunner(env=environment).invoke(main, chosen).output


def test_the_variable_holds_several_bundles_as_a_search_path_does(tmp_path):
    for name in ("one", "two"):
        write_tiny_bundle(tmp_path / name)
    variable = f"{tmp_path / 'one'}{os.pathsep}{tmp_path / 'two'}"
    ended = CliRunner(env={"BOOTLEG_BUNDLE": variable}).invoke(main, ["serve", "--port", "0"])
    assert f"{tmp_path / 'one'} and {tmp_path / 'two'} are both named 'tiny'" in ended.output


def test_a_bad_value_in_the_environment_is_refused_by_its_variable():
    result = CliRunner(env={"BOOTLEG_PORT": "http"}).invoke(main, ["serve"])
    assert result.exit_code == 2
    assert "port" in result.output.lower()


def test_the_help_imports_neither_torch_nor_a_server():
    code = "import sys, click.testing; from bootleg_cli import main; "
    code += "click.testing.CliRunner().invoke(main, ['serve', '--help']); "
    code += "sys.exit(str([m for m in ('torch', 'onnxruntime', 'uvicorn', 'fastapi') if m in sys.modules]))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=60)
    assert done.stderr.strip() == "[]"


def test_the_example_photograph_is_there_and_is_an_image():
    assert cli.EXAMPLE_IMAGE.read_bytes()[:3] == b"\xff\xd8\xff"


def test_the_curl_line_works_where_the_path_has_a_space(monkeypatch):
    image = Path("/opt/My Software/example.jpg")
    monkeypatch.setattr(cli, "EXAMPLE_IMAGE", image)
    assert f"@{image}" in shlex.split(curl_line("127.0.0.1", 8000))


def test_a_port_that_is_taken_is_said_before_anything_is_loaded():
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(StartupError, match=f"port {port} .*choose another with --port"):
            cli._check_port("127.0.0.1", port)


def test_a_fault_of_the_device_ends_the_process_with_its_own_code():
    code = "from bootleg_service.lifecycle import give_up; give_up(RuntimeError('gone'))"
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, check=False)
    assert ended.returncode == DEVICE_FAILED == 86
    assert b"gone" in ended.stderr


def test_a_key_is_made_with_its_line():
    token, line = CliRunner().invoke(main, ["key", "search"]).output.splitlines()
    assert line == f"search {hashlib.sha256(token.encode()).hexdigest()}"
