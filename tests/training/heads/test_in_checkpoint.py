"""Heads in a checkpoint: written, read, damaged, replaced."""

import json

import pytest
import torch

from bootleg_bundle.errors import CheckpointError
from bootleg_bundle.manifest import Probe
from bootleg_training import checkpoint
from bootleg_training.checkpoint import CONFIG_NAME, head_probe, load_encoder, load_head, read_config, write_head
from bootleg_training.heads.classes import numbered_classes
from bootleg_training.heads.config import HeadConfig
from bootleg_training.heads.model import build_head
from bootleg_training.probes.probe import record_probes

FILE = "heads/blocks.safetensors"


def described(kind="layers", classes=3):
    return HeadConfig(kind=kind, size=32, upscale=1 if kind == "linear" else 2, classes=numbered_classes(classes))


def put(path, name="blocks", *, kind="layers", value=0.5, seed=0):
    config = described(kind)
    torch.manual_seed(seed)
    head = build_head(config, 32, len(read_config(path).target_layers))
    torch.nn.init.normal_(head.project.weight)
    probe = Probe(probe=head_probe(name), dataset="made up", metric="mIoU", value=value, random_init=0.1)
    write_head(path, name, config, head.state_dict(), probe)
    return head


@pytest.mark.parametrize("kind", ["linear", "layers"])
def test_a_head_is_read_as_it_was_written(saved, kind):
    before, encoder = read_config(saved), (saved / "encoder.safetensors").read_bytes()
    head = put(saved, kind=kind)
    config = read_config(saved)
    loaded = load_head(saved, "blocks", config)
    assert not loaded.training
    assert loaded.state_dict().keys() == head.state_dict().keys()
    assert all(torch.equal(loaded.state_dict()[name], weight) for name, weight in head.state_dict().items())
    assert config.heads == {"blocks": described(kind)}
    assert [probe.probe for probe in config.probes] == ["segmentation:blocks"]
    assert config.model_dump(exclude={"heads", "files", "probes"}) == before.model_dump(
        exclude={"heads", "files", "probes"}
    )
    assert (saved / "encoder.safetensors").read_bytes() == encoder
    load_encoder(saved)
    assert not list(saved.rglob("*.partial"))
    assert (saved / FILE).stat().st_mode & 0o777 == 0o644


def test_a_checkpoint_from_before_heads_is_read(saved):
    fields = json.loads((saved / CONFIG_NAME).read_text())
    del fields["heads"]
    (saved / CONFIG_NAME).write_text(json.dumps(fields))
    assert read_config(saved).heads == {}
    put(saved)
    assert set(read_config(saved).heads) == {"blocks"}


def test_heads_lie_side_by_side_and_one_replaces_its_namesake_alone(saved):
    put(saved, "blocks")
    put(saved, "other", kind="linear")
    head = put(saved, "blocks", kind="linear", value=0.75, seed=3)
    config = read_config(saved)
    assert set(config.heads) == {"blocks", "other"}
    assert sorted(config.files) == ["encoder.safetensors", FILE, "heads/other.safetensors", "student.safetensors"]
    assert {probe.probe: probe.value for probe in config.probes} == {
        "segmentation:blocks": 0.75,
        "segmentation:other": 0.5,
    }
    assert torch.equal(load_head(saved, "blocks", config).project.weight, head.project.weight)


def test_probes_recorded_later_keep_the_head(saved):
    put(saved)
    record_probes(saved, [Probe(probe="knn", dataset="made up", value=0.5)])
    config = read_config(saved)
    assert set(config.heads) == {"blocks"}
    assert [probe.probe for probe in config.probes] == ["segmentation:blocks", "knn"]


@pytest.mark.parametrize("place", [0, 0.5, -1])
def test_one_flipped_bit_of_a_head_is_refused_by_the_files_name(saved, place):
    put(saved)
    data = bytearray((saved / FILE).read_bytes())
    data[place if isinstance(place, int) else int(place * len(data))] ^= 1
    (saved / FILE).write_bytes(data)
    with pytest.raises(CheckpointError, match=rf"{FILE}.*SHA-256"):
        load_encoder(saved)


def test_a_missing_head_is_refused_by_its_name(saved):
    put(saved)
    (saved / FILE).unlink()
    with pytest.raises(CheckpointError, match=f"{FILE} is missing"):
        read_config(saved)


@pytest.mark.parametrize(
    ("change", "named"),
    [
        (lambda f: f["files"].pop(FILE), "heads/blocks.safetensors is not listed"),
        (lambda f: f["heads"].update({"../evil": f["heads"]["blocks"]}), "evil"),
        (lambda f: f["heads"]["blocks"].update(kind="deep"), "heads.blocks.kind"),
        (lambda f: f["heads"]["blocks"]["classes"][0].update(color=[0, 0, 256]), r"heads\.blocks\.classes"),
    ],
)
def test_a_description_that_does_not_fit_is_refused_by_the_field(saved, change, named):
    put(saved)
    fields = json.loads((saved / CONFIG_NAME).read_text())
    change(fields)
    (saved / CONFIG_NAME).write_text(json.dumps(fields))
    with pytest.raises(CheckpointError, match=named):
        read_config(saved)


def test_weights_that_do_not_fit_the_description_are_refused(saved):
    put(saved)
    config = read_config(saved)
    wider = config.model_copy(update={"heads": {"blocks": described(classes=4)}})
    with pytest.raises(CheckpointError, match=f"{FILE} does not fit its description"):
        load_head(saved, "blocks", wider)


@pytest.mark.parametrize("step", ["write_tensors", "file_sha256"])
def test_a_crash_while_a_head_is_replaced_leaves_a_checkpoint_that_is_read(saved, monkeypatch, step):
    """Each step is made to fail at the new weights, after those of the old head may be gone."""
    put(saved)
    real = getattr(checkpoint, step)

    def failing(*given):
        if "heads/blocks" in str(given) and "blocks" not in json.loads((saved / CONFIG_NAME).read_text())["heads"]:
            raise OSError("disk")
        return real(*given)

    with monkeypatch.context() as patch:
        patch.setattr(checkpoint, step, failing)
        with pytest.raises(OSError, match="disk"):
            put(saved, seed=1)
    assert read_config(saved).heads == {}
    load_encoder(saved)
    put(saved, seed=1)
    assert set(read_config(saved).heads) == {"blocks"}
