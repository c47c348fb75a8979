"""``bootleg bundle`` on the command line."""

import json
import re

import pytest
from click.testing import CliRunner

from bootleg_bundle.bundle import default_bundle_path, open_bundle
from bootleg_bundle.schema import manifest_schema
from bootleg_cli import main
from tests.bundle.test_cli import command_line
from tests.bundle.transfer.site import Site


def run(*arguments, **environment):
    return CliRunner().invoke(main, ["bundle", *map(str, arguments)], env=environment, catch_exceptions=False)


@pytest.fixture
def site():
    server = Site()
    yield server
    server.close()


def test_a_bundle_goes_out_and_comes_back(site, tiny_bundle, tmp_path):
    pushed = run("push", tiny_bundle.path, site.url, BOOTLEG_BUNDLE_TOKEN="tok")
    assert pushed.exit_code == 0, pushed.stderr
    assert pushed.stdout == f"{site.url}: pushed, tiny, 0.0 MB, sha256 {tiny_bundle.sha256}\n"
    assert all(headers["Authorization"] == "Bearer tok" for _, _, headers in site.log)
    pulled = run("pull", site.url, tmp_path / "out", "--sha256", tiny_bundle.sha256)
    assert pulled.exit_code == 0, pulled.stderr
    assert "pulled, tiny" in pulled.stdout
    assert "already there" in run("pull", site.url, tmp_path / "out").stdout
    assert "already there" in run("push", tiny_bundle.path, site.url).stdout
    assert open_bundle(tmp_path / "out").sha256 == tiny_bundle.sha256


def test_a_refusal_is_one_line_and_exit_code_2(site, tiny_bundle, tmp_path):
    for arguments in (
        ("pull", site.url, tmp_path / "out"),
        ("pull", "s3://bucket", tmp_path / "out"),
        ("pull", tiny_bundle.path, tmp_path / "out", "--sha256", "0" * 64),
        ("pull", tiny_bundle.path, tmp_path / "out", "--sha256", "abc"),
        ("push", tmp_path, site.url),
        ("show", tmp_path),
    ):
        done = run(*arguments)
        assert done.exit_code == 2
        assert done.stderr.startswith("Error: ")
        assert done.stderr.count("\n") == 1


@pytest.mark.parametrize("token", ["a b", "a\nX-Evil: 1", "töken"])
def test_a_token_that_is_none_is_refused_and_not_repeated(site, tiny_bundle, token):
    done = run("push", tiny_bundle.path, site.url, BOOTLEG_BUNDLE_TOKEN=token)
    assert done.exit_code == 2
    assert "BOOTLEG_BUNDLE_TOKEN" in done.stderr
    assert token not in done.stderr
    assert site.log == []


def test_a_missing_library_of_the_hub_answers_with_the_line_to_install(tmp_path):
    done = command_line("bundle", "pull", "hf:a/b", str(tmp_path), before="sys.modules['huggingface_hub'] = None")
    assert done.returncode == 2
    assert "pip install 'bootleg-vision[hub]'" in done.stderr
    assert "Traceback" not in done.stderr


def test_show_says_what_the_shipped_bundle_holds():
    bundle = open_bundle(default_bundle_path())
    shown = run("show").stdout
    for fact in (bundle.manifest.name, bundle.sha256, bundle.manifest.embedding_space, "fp32", "Tiny-ImageNet"):
        assert fact in shown
    assert re.search(r"^input +64 x 64 RGB, bicubic, centre 1$", shown, re.MULTILINE)


def test_schema_prints_the_schema():
    assert json.loads(run("schema").stdout) == manifest_schema()
