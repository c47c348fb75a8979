"""The front door, ``bootleg_cli``: lazy, honest about missing extras, one line for a refusal."""

import subprocess
import sys
import tomllib
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from bootleg_cli import COMMANDS, main

ROOMS = ["bootleg_service", "bootleg_training", "bootleg_export"]
PYPROJECT = Path(__file__).parents[2] / "pyproject.toml"


def command_line(*arguments, before="", after=""):
    """Run ``bootleg`` in a process of its own, with statements before and after it."""
    script = f"""
import sys
{before}
from bootleg_cli import main
try:
    main({list(arguments)!r})
finally:
    {after or "pass"}
"""
    return subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)


def test_help_lists_every_command_and_imports_no_room():
    done = command_line("--help", after=f"print('imported:', [n for n in {ROOMS} if n in sys.modules])")
    assert done.returncode == 0
    for name, command in COMMANDS.items():
        assert name in done.stdout
        assert " ".join(command.summary.split()[:4]) in done.stdout
    assert "imported: []" in done.stdout


@pytest.mark.parametrize("name", COMMANDS)
def test_the_summary_in_the_table_is_the_commands_own(name):
    command = main.get_command(click.Context(main), name)
    assert command.get_short_help_str(limit=1000) == COMMANDS[name].summary
    assert command.name == name


def test_the_table_is_sorted_and_every_extra_exists():
    extras = tomllib.loads(PYPROJECT.read_text())["project"]["optional-dependencies"]
    assert list(COMMANDS) == sorted(COMMANDS)
    for command in COMMANDS.values():
        assert set(command.extra.split(",")) <= set(extras)


def test_serve_help_imports_no_torch_and_no_model_runtime():
    heavy = ["torch", "onnxruntime", "bootleg_training", "bootleg_export"]
    done = command_line("serve", "--help", after=f"print('imported:', [n for n in {heavy} if n in sys.modules])")
    assert done.returncode == 0
    assert "--bundle" in done.stdout
    assert "imported: []" in done.stdout


@pytest.mark.parametrize("name", COMMANDS)
def test_every_help_works_without_torch(name):
    done = command_line(name, "--help", before="sys.modules['torch'] = None")
    assert done.returncode == 0, done.stderr
    assert COMMANDS[name].summary.split()[0] in done.stdout


@pytest.mark.parametrize(
    ("arguments", "missing", "extra"),
    [
        (["train", "--data", "a", "--out", "b"], "torch", "training"),
        (["train", "--data", "a", "--out", "b"], "yaml", "training"),
        (["probe", "a", "--train", "b", "--test", "c"], "torch", "training"),
        (["export", "a", "--out", "b"], "torch", "export,cpu"),
        (["verify", "a"], "onnxruntime", "cpu"),
        (["serve"], "uvicorn", "cpu"),
        (["serve"], "onnxruntime", "cpu"),
    ],
)
def test_a_missing_extra_answers_with_the_line_to_install(arguments, missing, extra):
    done = command_line(*arguments, before=f"sys.modules[{missing!r}] = None")
    assert "Traceback" not in done.stderr, done.stderr
    assert done.returncode != 0
    assert f"pip install 'bootleg-vision[{extra}]'" in done.stderr
    assert missing in done.stderr


def test_a_refusal_is_one_line_and_exit_code_2(tmp_path):
    result = CliRunner().invoke(main, ["prepare", str(tmp_path / "none"), "--out", str(tmp_path / "o"), "--size", "32"])
    assert result.exit_code == 2
    assert result.stderr.count("\n") == 1
    assert result.stderr.startswith("Error: ")
    assert str(tmp_path / "none") in result.stderr


def test_a_bundle_that_is_none_is_refused_in_one_line(tmp_path):
    done = command_line("serve", "--bundle", str(tmp_path))
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    assert "manifest.json" in done.stderr


def test_a_fault_of_ours_keeps_its_traceback(monkeypatch):
    def broken(self, ctx):
        raise RuntimeError("a bug")

    monkeypatch.setattr(click.Group, "invoke", broken)
    with pytest.raises(RuntimeError, match="a bug"):
        CliRunner().invoke(main, ["serve"], catch_exceptions=False)


def test_an_unknown_command_is_refused():
    result = CliRunner().invoke(main, ["trian"])
    assert result.exit_code == 2
    assert "trian" in result.stderr


def test_the_version_is_that_of_the_distribution():
    result = CliRunner().invoke(main, ["--version"])
    assert result.exit_code == 0
    assert tomllib.loads(PYPROJECT.read_text())["project"]["version"] in result.stdout


def test_the_package_runs_as_a_module():
    done = subprocess.run([sys.executable, "-m", "bootleg_cli", "-h"], capture_output=True, text=True, check=False)
    assert done.returncode == 0
    assert "Commands:" in done.stdout
