import pytest
import torch

from bootleg_bundle.errors import CheckpointError
from bootleg_training.checkpoint import read_config
from bootleg_training.probes.encoders import TWIN, load_compared, load_which, suffix, untrained_twin
from tests.training.probes.conftest import write_made_up


def test_teacher_and_student_are_their_own_weights(saved):
    (teacher, _), (student, config) = load_which(saved, "teacher"), load_which(saved, "student")
    assert not teacher.patch_embed.weight.equal(student.patch_embed.weight)
    assert config == read_config(saved)
    assert not student.training


def test_the_twin_follows_the_runs_seed_and_leaves_the_random_state_alone(saved):
    config = read_config(saved)
    state = torch.random.get_rng_state()
    one, two = untrained_twin(config), untrained_twin(config)
    assert torch.random.get_rng_state().equal(state)
    assert one.patch_embed.weight.equal(two.patch_embed.weight)
    other = config.model_copy(update={"run": config.run.model_copy(update={"seed": 1})})
    assert not untrained_twin(other).patch_embed.weight.equal(one.patch_embed.weight)


def test_the_twin_is_always_beside_the_encoders_asked_for(saved):
    assert list(load_compared(saved, ("student", "teacher"))[0]) == ["student", "teacher", TWIN]
    assert [suffix(name) for name in ("teacher", "student")] == ["", "-student"]


def test_a_checkpoint_without_a_student_says_so(tmp_path):
    path = write_made_up(tmp_path / "alone", roles=("encoder",))
    load_which(path, "teacher")
    with pytest.raises(CheckpointError, match=r"holds no student.safetensors"):
        load_which(path, "student")
