import json

import pytest
import torch

from bootleg_bundle.errors import CheckpointError
from bootleg_bundle.preprocess import PreprocessSpec
from bootleg_training import checkpoint
from bootleg_training.checkpoint import (
    CONFIG_NAME,
    ENCODER_NAME,
    load_encoder,
    parse_config,
    read_config,
    weights_sha256,
)
from tests.provenance import made_up
from tests.training.tiny import tiny_config, tiny_model

FILES = [ENCODER_NAME, "student.safetensors", "predictor.safetensors"]


def write(path, model, config):
    weights = {
        "encoder": dict(model.teacher.named_parameters()),
        "student": dict(model.student.named_parameters()),
        "predictor": dict(model.predictor.named_parameters()),
    }
    source = made_up(steps=1, images_seen=8, checkpoint_sha256=weights_sha256(weights["encoder"]))
    fields = {
        "encoder": config.encoder,
        "target_layers": config.target.layers,
        "preprocess": PreprocessSpec(height=32, width=32),
        "run": config,
        "provenance": source,
    }
    checkpoint.write_checkpoint(path, weights, fields)
    return path


@pytest.fixture
def model(config):
    return tiny_model(config)


@pytest.fixture
def saved(tmp_path, model, config):
    return write(tmp_path / "checkpoint", model, config)


def test_an_encoder_is_loaded_as_it_was_saved(saved, model, config):
    encoder, read = load_encoder(saved)
    for (name, expected), (other, actual) in zip(
        model.teacher.named_parameters(), encoder.named_parameters(), strict=True
    ):
        assert name == other
        assert torch.equal(expected, actual)
    assert not encoder.training
    assert read.run == config
    assert read.target_layers == config.target.layers
    x = torch.randn(2, 32, 32, 3)
    with torch.no_grad():
        assert torch.equal(encoder(x).patches, model.teacher(x).patches)


def test_the_checkpoint_holds_no_other_file(saved):
    assert {path.name for path in saved.iterdir()} == {*FILES, CONFIG_NAME}
    assert set(read_config(saved).files) == set(FILES)


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("place", [0, 0.5, -1])
def test_one_flipped_bit_is_refused_by_the_files_name(saved, name, place):
    data = bytearray((saved / name).read_bytes())
    data[place if isinstance(place, int) else int(place * len(data))] ^= 1
    (saved / name).write_bytes(data)
    with pytest.raises(CheckpointError, match=f"{name}.*SHA-256"):
        load_encoder(saved)


@pytest.mark.parametrize("name", FILES)
def test_a_missing_file_is_refused_by_its_name(saved, name):
    (saved / name).unlink()
    with pytest.raises(CheckpointError, match=f"{name} is missing"):
        load_encoder(saved)


def edit(saved, change):
    fields = json.loads((saved / CONFIG_NAME).read_text())
    change(fields)
    (saved / CONFIG_NAME).write_text(json.dumps(fields))


@pytest.mark.parametrize(
    ("change", "named"),
    [
        (lambda f: f.update(surprise=1), "surprise"),
        (lambda f: f.update(format_version=2), "format_version"),
        (lambda f: f.pop("preprocess"), "preprocess"),
        (lambda f: f["encoder"].update(width=30), "encoder"),
        (lambda f: f["files"][ENCODER_NAME].update(bytes=-1), "bytes"),
    ],
)
def test_a_configuration_that_does_not_fit_is_refused_by_the_field(saved, change, named):
    edit(saved, change)
    with pytest.raises(CheckpointError, match=named):
        read_config(saved)


@pytest.mark.parametrize("change", [{"width": 64}, {"depth": 4}, {"patch_size": 2}, {"registers": 3}])
def test_weights_that_do_not_fit_the_architecture_are_refused(saved, change):
    edit(saved, lambda fields: fields["encoder"].update(change))
    with pytest.raises(CheckpointError, match="does not fit the architecture"):
        load_encoder(saved)


def test_a_configuration_that_lists_no_encoder_is_refused(saved):
    edit(saved, lambda fields: fields["files"].pop(ENCODER_NAME))
    (saved / ENCODER_NAME).unlink()
    with pytest.raises(CheckpointError, match=ENCODER_NAME):
        load_encoder(saved)


@pytest.mark.parametrize("text", ["", "{", "[]", "\0"])
def test_a_configuration_that_is_no_json_object_is_refused(saved, text):
    (saved / CONFIG_NAME).write_text(text)
    with pytest.raises(CheckpointError, match=CONFIG_NAME):
        read_config(saved)


def test_a_folder_without_a_configuration_is_no_checkpoint(tmp_path):
    with pytest.raises(CheckpointError, match="is no checkpoint"):
        load_encoder(tmp_path)


def test_an_existing_checkpoint_is_not_overwritten(saved, model, config):
    before = (saved / CONFIG_NAME).read_bytes()
    with pytest.raises(CheckpointError, match="exists already"):
        write(saved, model, config)
    assert (saved / CONFIG_NAME).read_bytes() == before


def test_a_crash_while_writing_leaves_no_checkpoint_and_may_be_repeated(tmp_path, model, config, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(checkpoint, "file_sha256", lambda path: (_ for _ in ()).throw(OSError("disk")))
        with pytest.raises(OSError, match="disk"):
            write(tmp_path / "checkpoint", model, config)
    assert not (tmp_path / "checkpoint").exists()
    load_encoder(write(tmp_path / "checkpoint", model, config))


def test_the_hash_of_weights_depends_on_the_weights_alone():
    weights = {"a": torch.arange(6.0).view(2, 3), "b": torch.ones(2)}
    first = weights_sha256(weights)
    assert weights_sha256(dict(reversed(weights.items()))) == first
    assert weights_sha256({**weights, "a": torch.arange(6.0).view(3, 2).T.contiguous().T.reshape(2, 3)}) == first
    assert weights_sha256({**weights, "a": weights["a"].clone().view(3, 2)}) != first
    assert weights_sha256({**weights, "b": torch.ones(2, dtype=torch.float64)}) != first
    assert weights_sha256({**weights, "b": torch.tensor([1.0, 1.0000001])}) != first
    assert weights_sha256({"a": weights["a"], "c": weights["b"]}) != first


def test_two_seeds_have_two_hashes():
    one, two = (weights_sha256(dict(tiny_model(tiny_config(), seed).student.named_parameters())) for seed in (0, 1))
    assert one != two


def test_a_run_folder_is_answered_with_its_checkpoint(saved):
    (saved.parent / CONFIG_NAME).write_text("{}")
    (saved.parent / "metrics.jsonl").write_text("")
    with pytest.raises(CheckpointError, match=f"is a run folder: name its checkpoint, {saved}$"):
        read_config(saved.parent)
    saved.rename(saved.parent / "elsewhere")
    with pytest.raises(CheckpointError, match=f"{saved}, once the run is finished$"):
        read_config(saved.parent)


def test_settings_are_read_without_a_look_at_the_weights(saved, monkeypatch):
    whole = read_config(saved)

    def never(path):
        raise AssertionError(path)

    monkeypatch.setattr(checkpoint, "file_sha256", never)
    assert parse_config(saved) == whole


def test_weights_that_cannot_be_written_say_why(tmp_path):
    with pytest.raises(CheckpointError, match=r"w\.safetensors cannot be written: No such file or directory"):
        checkpoint.write_tensors({"a": torch.zeros(1)}, tmp_path / "none" / "w.safetensors")
