import dataclasses

import pytest

from bootleg_bundle.errors import DataError
from bootleg_bundle.manifest import Probe
from bootleg_training.checkpoint import load_encoder, read_config
from bootleg_training.engine.loop import train
from bootleg_training.probes.probe import probe_checkpoint, record_probes
from tests.training.tiny import CPU, tiny_config, tiny_pack

TRAIN, TEST = tiny_pack(80, labelled=True, side=32), tiny_pack(40, labelled=True, side=32)


@pytest.fixture
def saved(tmp_path, pack):
    return train(tiny_config(images=8), pack, tmp_path / "run", device=CPU)


def test_both_probes_are_scored_beside_the_untrained_twin(saved):
    results = probe_checkpoint(saved, TRAIN, TEST, CPU)
    assert [result.probe for result in results] == ["knn", "linear"]
    for result in results:
        assert result.dataset == TRAIN.name
        assert result.value == 1.0  # dark against light: any encoder sees it
        assert 0 <= result.random_init <= 1
        assert "80 train, 40 test" in result.detail


def test_probing_repeats_and_changes_nothing(saved):
    before = (saved / "config.json").read_bytes()
    assert probe_checkpoint(saved, TRAIN, TEST, CPU) == probe_checkpoint(saved, TRAIN, TEST, CPU)
    assert (saved / "config.json").read_bytes() == before


def test_recorded_probes_replace_their_own_kind_and_leave_the_checkpoint_loadable(saved):
    def probe(name, dataset, value):
        return Probe(probe=name, dataset=dataset, value=value)

    record_probes(saved, [probe("knn", "a", 0.1), probe("linear", "a", 0.2)])
    record_probes(saved, [probe("knn", "a", 0.3), probe("knn", "b", 0.4)])
    found = {(p.probe, p.dataset): p.value for p in read_config(saved).probes}
    assert found == {("linear", "a"): 0.2, ("knn", "a"): 0.3, ("knn", "b"): 0.4}
    load_encoder(saved)
    assert not list(saved.glob("*.partial"))


def test_packs_without_labels_or_with_other_classes_are_refused(saved, pack):
    with pytest.raises(DataError, match="needs labels"):
        probe_checkpoint(saved, pack, TEST, CPU)
    with pytest.raises(DataError, match="different classes"):
        probe_checkpoint(saved, TRAIN, dataclasses.replace(TEST, classes=("x", "y")), CPU)


def test_a_pack_whose_pixels_would_not_be_the_services_is_refused(saved):
    with pytest.raises(DataError, match="prepare it with --size 32"):
        probe_checkpoint(saved, tiny_pack(80, labelled=True, side=40), TEST, CPU)
