import argparse
import pathlib

import pytest
import torch

from bootleg_bundle.errors import CheckpointError
from bootleg_training.foreign.files import read_tensors

STATE = {"a": torch.arange(6.0).view(2, 3), "b": torch.ones(2)}


class Touch:
    """An object that, unpickled, creates a file."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return pathlib.Path.touch, (pathlib.PurePath(self.path),)


class Custom:
    """An object of somebody's training script."""


@pytest.fixture
def file(tmp_path):
    return tmp_path / "weights.pth"


@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.parametrize("container", [None, "target_encoder", "teacher", "encoder", "model"])
def test_the_state_dict_is_found_at_the_top_or_in_its_container(container, zipped, file):
    content = STATE if container is None else {container: STATE, "epoch": 3, "loss": 0.5}
    torch.save(content, file, _use_new_zipfile_serialization=zipped)
    tensors, found = read_tensors(file)
    assert found == container
    assert tensors.keys() == STATE.keys()
    assert all(torch.equal(tensors[name], STATE[name]) for name in STATE)


def test_a_training_that_kept_its_options_can_be_read(file):
    torch.save({"model": STATE, "args": argparse.Namespace(lr=1e-3, resume="")}, file)
    assert read_tensors(file)[1] == "model"


@pytest.mark.parametrize("zipped", [True, False])
def test_code_in_a_file_is_not_run(zipped, file, tmp_path):
    torch.save({"model": STATE, "more": Touch(tmp_path / "ran")}, file, _use_new_zipfile_serialization=zipped)
    with pytest.raises(CheckpointError):
        read_tensors(file)
    assert not (tmp_path / "ran").exists()


def test_what_would_be_run_is_named(file):
    torch.save({"model": STATE, "more": Custom()}, file)
    with pytest.raises(CheckpointError, match=r"names '.*Custom', which loading would run.*\.safetensors"):
        read_tensors(file)


@pytest.mark.parametrize("ending", [".pth", ".safetensors"])
@pytest.mark.parametrize("content", [b"", b"\0" * 100, b"PK\x03\x04", b"not weights at all", b"\x80\x02}."])
def test_a_file_that_holds_something_else_is_refused(ending, content, tmp_path):
    (tmp_path / f"weights{ending}").write_bytes(content)
    with pytest.raises(CheckpointError, match="weights"):
        read_tensors(tmp_path / f"weights{ending}")


@pytest.mark.parametrize("share", [0.1, 0.5, 0.9])
@pytest.mark.parametrize("zipped", [True, False])
def test_a_file_that_was_cut_short_is_refused(share, zipped, file):
    torch.save(STATE, file, _use_new_zipfile_serialization=zipped)
    file.write_bytes(file.read_bytes()[: int(share * file.stat().st_size)])
    with pytest.raises(CheckpointError, match="damaged"):
        read_tensors(file)


@pytest.mark.parametrize("content", [torch.ones(3), [STATE], {}, {"model": {}}, {"epoch": 1}])
def test_a_file_without_a_state_dict_is_refused(content, file):
    torch.save(content, file)
    with pytest.raises(CheckpointError, match="holds no state dict"):
        read_tensors(file)


def test_what_is_there_instead_is_named(file):
    torch.save({"state": STATE, "step": 3}, file)
    with pytest.raises(CheckpointError, match="'state', 'step'"):
        read_tensors(file)


@pytest.mark.parametrize("name", ["absent.pth", "absent.safetensors"])
def test_a_file_that_is_not_there_is_an_error_of_the_system(name, tmp_path):
    with pytest.raises(FileNotFoundError):
        read_tensors(tmp_path / name)
