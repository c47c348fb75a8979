import dataclasses
import re

import pytest

from bootleg_bundle.errors import DataError
from bootleg_bundle.manifest import Probe
from bootleg_training.checkpoint import load_encoder, read_config
from bootleg_training.probes.attentive import AttentiveSettings
from bootleg_training.probes.encoders import Comparison
from bootleg_training.probes.probe import probe_checkpoint, record_probes
from tests.training.tiny import CPU, tiny_pack

TRAIN, TEST = tiny_pack(80, labelled=True, side=32), tiny_pack(40, labelled=True, side=32)


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


def test_every_kind_and_the_sweep_come_in_order_with_their_protocol(saved):
    results = probe_checkpoint(
        saved,
        TRAIN,
        TEST,
        CPU,
        kinds=("attentive", "linear-last4"),
        layers=True,
        attentive=AttentiveSettings(iterations=3, batch=8),
    )
    blocks = [f"{kind}-block-{block}" for kind in ("knn", "linear") for block in (1, 2, 3)]
    assert [result.probe for result in results] == ["attentive", "linear-last4", *blocks]
    assert "behind the final norm" in results[1].detail
    assert results[2].detail.endswith("mean patch token of block 1 behind the final norm")


def test_the_last_block_of_the_sweep_is_the_plain_probe(saved):
    results = {result.probe: result for result in probe_checkpoint(saved, TRAIN, TEST, CPU, layers=True)}
    for kind in ("knn", "linear"):
        last, plain = results[f"{kind}-block-3"], results[kind]
        assert (last.value, last.random_init) == (plain.value, plain.random_init)


def test_teacher_and_student_are_told_apart_and_share_the_twin(saved):
    pair = Comparison(which=("teacher", "student"))
    results = probe_checkpoint(saved, TRAIN, TEST, CPU, comparison=pair)
    assert [result.probe for result in results] == ["knn", "linear", "knn-student", "linear-student"]
    assert results[0].random_init == results[2].random_init
    alone = probe_checkpoint(saved, TRAIN, TEST, CPU, comparison=Comparison(which=("student",)))
    assert alone == results[2:]


def test_a_cache_gives_the_same_numbers_and_follows_the_pack(saved, tmp_path):
    kept = Comparison(cache=tmp_path / "cache")
    first = probe_checkpoint(saved, TRAIN, TEST, CPU, comparison=kept)
    files = sorted(path.name for path in kept.cache.iterdir())
    assert len(files) == 2 * 4  # two packs, two encoders; each its rows and their hash
    assert probe_checkpoint(saved, TRAIN, TEST, CPU, comparison=kept) == first
    assert probe_checkpoint(saved, TRAIN, TEST, CPU) == first
    assert sorted(path.name for path in kept.cache.iterdir()) == files
    probe_checkpoint(saved, dataclasses.replace(TRAIN, fingerprint="other"), TEST, CPU, comparison=kept)
    assert len(list(kept.cache.iterdir())) == 2 * 6


def test_the_tests_labels_change_the_score_and_nothing_that_was_chosen(saved):
    turned = dataclasses.replace(TEST, labels=1 - TEST.labels)
    for one, other in zip(*(probe_checkpoint(saved, TRAIN, test, CPU) for test in (TEST, turned)), strict=True):
        assert one.value == pytest.approx(1 - other.value)
        assert re.findall(r"k = \d+ chosen|l2 = \S+;", one.detail) == re.findall(
            r"k = \d+ chosen|l2 = \S+;", other.detail
        )
