"""``bootleg config``: what it prints is what is trained with."""

import json
import shutil

import pytest
import yaml
from click.testing import CliRunner

from bootleg_cli import COMMANDS, Command, main
from bootleg_training.compose import compose
from bootleg_training.config import RunConfig
from bootleg_training.presets import PRESETS


@pytest.fixture
def config(monkeypatch):
    summary = "Show, describe and compare the settings of runs."
    monkeypatch.setitem(COMMANDS, "config", Command("bootleg_training.cli.config:config", "training", summary))

    def run(*arguments):
        return CliRunner().invoke(main, ["config", *map(str, arguments)], catch_exceptions=False)

    return run


def comments(text):
    """Origin by key, for keys that occur once."""
    rows = [line.partition("  # ") for line in text.splitlines()]
    return {row[0].split(":")[0].strip(): row[2] for row in rows}


def test_help_names_the_three(config):
    shown = config("--help").stdout
    assert all(name in shown for name in ("show", "schema", "diff"))


@pytest.mark.parametrize("preset", PRESETS)
def test_what_is_shown_is_what_is_composed(config, preset):
    shown = config("show", "--preset", preset)
    assert shown.exit_code == 0
    assert RunConfig.model_validate(yaml.safe_load(shown.stdout)) == PRESETS[preset].resolved()
    plain = config("show", "--preset", preset, "--no-resolved")
    assert RunConfig.model_validate(yaml.safe_load(plain.stdout)) == PRESETS[preset]


def test_what_is_shown_can_be_given_back(config, tmp_path):
    settings = ("name='a # b: c'", "optim.final_lr=1e-7", "mask.scale=[0.1,0.2]", "target.layers=[1,3]", "compile=true")
    shown = config("show", *(f"--set={setting}" for setting in settings), "--origin")
    (tmp_path / "run.yaml").write_text(shown.stdout)
    assert compose("nano", tmp_path / "run.yaml", ()) == compose("tiny-cpu", None, settings).resolved()


def test_every_value_has_its_origin(config, tmp_path):
    (tmp_path / "mine.yaml").write_text("seed: 3\noptim: {clip: 1.0}\nbatch_size: 64\n")
    arguments = ("show", "--preset", "nano", "--config", tmp_path / "mine.yaml", "--set", "batch_size=32", "--origin")
    found = comments(config(*arguments).stdout)
    assert found["seed"] == found["clip"] == "file mine.yaml"
    assert found["batch_size"] == "--set"
    assert found["base_lr"] == found["images"] == "preset nano"
    assert found["layers"] == "derived"
    assert found["visible"] == found["precision"] == "default"
    assert found["ema_start"] == "preset nano"
    plain = config(*arguments, "--no-resolved").stdout
    assert comments(plain)["layers"] == "default"
    values = [line for line in plain.splitlines() if not line.endswith(":")]
    assert all("  # " in line for line in values)


def test_without_origin_there_are_no_comments(config):
    assert "#" not in config("show").stdout


def test_a_misspelt_setting_is_refused_with_a_suggestion(config):
    refused = config("show", "--set", "optim.bas_lr=1")
    assert refused.exit_code == 2
    assert "did you mean optim.base_lr?" in refused.stderr


def test_the_schema_is_that_of_the_settings(config):
    assert json.loads(config("schema").stdout) == RunConfig.model_json_schema()


@pytest.fixture
def saved(tmp_path):
    """The same settings as a run folder, a checkpoint, and files."""
    fields = PRESETS["nano"].resolved().model_dump(mode="json")
    for name in ("run", "checkpoint"):
        (tmp_path / name).mkdir()
    (tmp_path / "run" / "config.json").write_text(json.dumps(fields))
    whole = {"format_version": 1, "run": fields, "provenance": {}, "encoder": fields["encoder"]}
    (tmp_path / "checkpoint" / "config.json").write_text(json.dumps(whole))
    shutil.copy(tmp_path / "run" / "config.json", tmp_path / "settings.json")
    (tmp_path / "settings.yaml").write_text(yaml.safe_dump(fields))
    return tmp_path


@pytest.mark.parametrize("name", ["run", "checkpoint", "settings.json", "settings.yaml", "checkpoint/config.json"])
def test_every_way_to_name_settings_gives_the_same(config, saved, name):
    same = config("diff", saved / name, "nano")
    assert (same.exit_code, same.stdout) == (0, "")


def test_differences_are_named_with_both_values(config, saved):
    found = config("diff", saved / "run", "cpu-smoke")
    assert found.exit_code == 1
    lines = dict(line.split(": ", 1) for line in found.stdout.splitlines())
    assert lines["name"] == "nano -> cpu-smoke"
    assert lines["encoder.width"] == "128 -> 64"
    assert lines["predictor.width"] == "64 -> 32"
    assert "seed" not in lines
    assert set(lines) == {"name", "encoder.width", "encoder.heads", "predictor.width", "predictor.heads",
                          "optim.base_lr", "optim.ema_start", "images"}  # fmt: skip


def test_a_partial_file_stands_on_the_defaults(config, tmp_path):
    (tmp_path / "a.yaml").write_text("seed: 3\n")
    (tmp_path / "b.yaml").write_text("seed: 4\nmask: {scale: [0.1, 0.2]}\n")
    found = config("diff", tmp_path / "a.yaml", tmp_path / "b.yaml")
    assert found.stdout == "mask.scale: [0.15, 0.2] -> [0.1, 0.2]\nseed: 3 -> 4\n"


def test_what_exists_comes_before_a_preset(config, saved, monkeypatch):
    monkeypatch.chdir(saved)
    (saved / "run").rename(saved / "tiny")
    assert config("diff", "tiny", "nano").exit_code == 0


@pytest.mark.parametrize(
    ("content", "named"),
    [
        ("- 1\n", "mapping"),
        ("{", "not valid YAML"),
        ("optim: {lr: 1}\n", "optim.lr"),
        ("images: -1\n", "images"),
        ("run: 7\nprovenance: {}\n", "settings"),
    ],
)
def test_what_is_no_settings_is_refused_in_one_line(config, tmp_path, content, named):
    (tmp_path / "a.yaml").write_text(content)
    refused = config("diff", tmp_path / "a.yaml", "nano")
    assert refused.exit_code == 2
    assert refused.stderr.count("\n") == 1
    assert named in refused.stderr


def test_an_unknown_name_is_refused(config, tmp_path):
    for name in ("nanoo", str(tmp_path), str(tmp_path / "none.json")):
        refused = config("diff", name, "nano")
        assert refused.exit_code == 2
        assert name in refused.stderr
        assert "tiny-cpu" in refused.stderr
