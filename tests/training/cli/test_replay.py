"""``bootleg replay``: what it says about a kept step."""

import pytest
import torch
from click.testing import CliRunner

from bootleg_cli import COMMANDS, Command, main
from bootleg_training.cli.replay import sentence
from bootleg_training.engine.divergence import Finding, save_reproduction
from bootleg_training.engine.progress import Progress
from bootleg_training.engine.trainer import Trainer
from tests.training.tiny import CPU, tiny_batch


@pytest.fixture
def replay(monkeypatch):
    entry = Command("bootleg_training.cli.replay:replay", "training", "")
    monkeypatch.setitem(COMMANDS, "replay", entry)

    def run(*arguments):
        return CliRunner().invoke(main, ["replay", "--device", "cpu", *map(str, arguments)], catch_exceptions=False)

    return run


@pytest.fixture
def kept(config, pack, tmp_path):
    def keep(poison):
        trainer = Trainer(config, CPU)
        if poison:
            with torch.no_grad():
                trainer.model.get_submodule(poison).bias.fill_(float("inf"))
        return save_reproduction(tmp_path / "run" / "diverged", trainer, tiny_batch(config, pack), Progress(3, 24))

    return keep


@pytest.mark.parametrize("module", ["student.blocks.1.fc1", "predictor.head"])
def test_the_first_module_at_fault_is_named(replay, kept, module):
    result = replay(kept(module))
    assert result.exit_code == 0
    assert result.stdout.startswith(f"{module} is the first module whose output is not finite; the loss is ")
    assert result.stdout.count("\n") == 1


def test_the_run_folder_will_do(replay, kept):
    folder = kept("predictor.head")
    assert replay(folder.parent).stdout == replay(folder).stdout


def test_a_sound_step_is_called_sound(replay, kept):
    result = replay(kept(None), "--precision", "bf16")
    assert result.stdout.startswith("everything is finite in bf16, with a loss of ")


def test_a_gradient_at_fault_is_named():
    said = sentence(Finding(1.25, "student.blocks.0.qkv.weight", "backward"), None)
    assert said.startswith("the forward pass is finite, with a loss of 1.25")
    assert "gradient of student.blocks.0.qkv.weight is the first that is not" in said


def test_a_folder_without_a_step_is_refused_in_one_line(replay, tmp_path):
    result = replay(tmp_path)
    assert result.exit_code == 2
    assert result.stderr.count("\n") == 1
    assert "no step of a diverged run" in result.stderr
