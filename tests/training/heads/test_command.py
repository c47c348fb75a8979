import json

import pytest
from click.testing import CliRunner

from bootleg_cli import main
from bootleg_training.checkpoint import load_head, read_config


def run(checkpoint, parts, *more, name="blocks"):
    given = ["--data", parts.train, "--val", parts.val, "--test", parts.test, "--name", name]
    quick = ["--crops", "8", "--iterations", "3", "--precision", "fp32", "--device", "cpu"]
    arguments = [str(word) for word in ("train-head", checkpoint, *given, *quick, *more)]
    return CliRunner().invoke(main, arguments)


@pytest.mark.parametrize("kind", ["linear", "layers"])
def test_the_head_and_its_score_are_in_the_checkpoint(saved, parts, kind):
    result = run(saved, parts, "--kind", kind, "--dataset", "Blocks")
    assert result.exit_code == 0, result.output
    said = json.loads(result.stdout)
    config = read_config(saved)
    assert [probe.model_dump(mode="json") for probe in config.probes] == [said["probe"]]
    assert said["probe"]["dataset"] == "Blocks"
    assert list(said["classes"]) == ["class 0", "class 1", "class 2"]
    assert set(said["classes"]["class 1"]) == {"iou", "random_init"}
    assert config.heads["blocks"].kind == kind
    load_head(saved, "blocks", config)


def test_a_name_that_is_taken_needs_replace(saved, parts):
    assert run(saved, parts, "--kind", "linear").exit_code == 0
    refused = run(saved, parts, "--kind", "layers")
    assert refused.exit_code == 2
    assert refused.stderr.splitlines() == [
        f"Error: {saved} has a head 'blocks' already: choose another --name, or give --replace"
    ]
    assert run(saved, parts, "--kind", "layers", "--replace").exit_code == 0
    config = read_config(saved)
    assert config.heads["blocks"].kind == "layers"
    assert len(config.probes) == 1


def test_an_ignored_label_is_no_class(saved, parts):
    assert run(saved, parts, "--ignore", "2").exit_code == 0
    assert len(read_config(saved).heads["blocks"].classes) == 2


@pytest.mark.parametrize(
    ("more", "name", "said"),
    [
        (("--ignore", "256"), "blocks", "256 is not in the range"),
        (("--size", "50"), "blocks", "size 50 is no multiple"),
        (("--kind", "deep"), "blocks", "'deep' is not one of"),
        ((), "Blocks!", "name: 'Blocks!'"),
    ],
)
def test_settings_out_of_bounds_are_one_line_and_change_nothing(saved, parts, more, name, said):
    before = (saved / "config.json").read_bytes()
    result = run(saved, parts, *more, name=name)
    assert result.exit_code == 2
    assert said in result.stderr
    assert "Traceback" not in result.output
    assert (saved / "config.json").read_bytes() == before
