import json

import numpy as np
import pytest
import torch

from bootleg_bundle.preprocess import PreprocessSpec
from bootleg_training.health import monitor
from bootleg_training.health.monitor import Monitor
from bootleg_training.objective import Bootleg
from bootleg_training.track.runlog import RunLog
from tests.training.tiny import tiny_model, tiny_pack

SPEC = PreprocessSpec(height=32, width=32)


@pytest.fixture
def path(tmp_path):
    return tmp_path / "metrics.jsonl"


@pytest.fixture
def labelled():
    return tiny_pack(60, labelled=True)


def fresh(config):
    torch.manual_seed(config.seed)
    return Bootleg(config)


def records(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_a_run_begins_with_its_untrained_twin(config, labelled, path):
    with RunLog(path) as log:
        said = Monitor(log, labelled, SPEC, config).start(fresh(config))
    (record,) = records(path)
    assert (record["step"], record["encoder"], record["knn_queries"]) == (0, "random_init", 6)
    assert record["knn"] == 1.0  # dark from light
    for name in ("rank_me_layers", "alpha_req_layers", "feature_std_layers", "cosine_layers", "token_std_layers"):
        assert len(record[name]) == len(config.target.layers), name
    assert said.startswith("step 0: untrained k-NN % 100.0, RankMe ")
    assert "\n" not in said


def test_a_run_begun_from_trained_weights_has_its_twin_beside_them(config, pack, path):
    with RunLog(path) as log:
        monitor_ = Monitor(log, pack, SPEC, config)
        said = monitor_.start(tiny_model(config))
        twin, teacher = log.records
    with RunLog(path.with_name("other")) as log:
        Monitor(log, pack, SPEC, config).start(fresh(config))
        assert log.records == [twin]
    assert (teacher["encoder"], teacher["step"]) == ("teacher", 0)
    assert teacher["rank_me"] != twin["rank_me"]
    assert "step 0: teacher" in said


def test_a_check_writes_one_record_and_says_figures_and_verdict(config, pack, path):
    model = fresh(config)
    with RunLog(path) as log:
        checks = Monitor(log, pack, SPEC, config)
        checks.start(model)
        with torch.no_grad():
            model.teacher.blocks[0].fc1.weight.mul_(1.1)
        said = checks.check(3, model)
    twin, teacher = records(path)
    assert (teacher["step"], teacher["encoder"], teacher["verdict"], teacher["rule"]) == (3, "teacher", "ok", "healthy")
    assert "knn" not in teacher  # no labels
    assert all(0 < cosine < 1 for cosine in teacher["student_layers"])
    figures, judged = said.split("\n")
    assert f"RankMe {teacher['rank_me']:.1f} ({twin['rank_me']:.1f})" in figures
    assert judged == "verdict: ok (healthy): no rule fired"


@pytest.mark.parametrize("positions", [True, False])
def test_a_constructed_collapse_raises_the_alarm(config, labelled, path, positions):
    model = fresh(config)
    with RunLog(path) as log:
        checks = Monitor(log, labelled, SPEC, config)
        checks.start(model)
        with torch.no_grad():  # the teacher no longer sees its images
            model.teacher.patch_embed.weight.zero_()
            if not positions:
                model.teacher.positions_ND.zero_()
        said = checks.check(3, model)
    assert "verdict: collapsed" in said
    assert records(path)[-1]["verdict"] == "collapsed"
    assert records(path)[-1]["rule"] == ("rank_vanished" if positions else "targets_vanished")


def test_spoilt_weights_are_a_collapse_and_the_record_stays_json(config, pack, path):
    model = fresh(config)
    with RunLog(path) as log:
        checks = Monitor(log, pack, SPEC, config)
        checks.start(model)
        with torch.no_grad():
            model.teacher.blocks[0].fc1.bias.fill_(float("nan"))
        assert "collapsed (not_finite)" in checks.check(3, model)
    assert "NaN" not in path.read_text()
    assert records(path)[-1]["rank_me"] is None


def test_a_resumed_run_finds_its_twin_in_the_record(config, pack, path, monkeypatch):
    model = tiny_model(config)
    with RunLog(path) as log:
        checks = Monitor(log, pack, SPEC, config)
        checks.start(model)
        whole = checks.check(3, model)
    with RunLog(path, from_step=2) as log:
        checks = Monitor(log, pack, SPEC, config)
        monkeypatch.setattr(checks, "_twin", None)  # must not be needed
        assert checks.check(3, model) == whole


def test_a_resumed_run_without_a_twin_on_record_makes_it_again(config, pack, path):
    model = tiny_model(config)
    with RunLog(path) as log:
        Monitor(log, pack, SPEC, config).start(model)
        twin = log.records[0]
    with RunLog(path.with_name("other")) as log:
        torch.manual_seed(5)
        expected = torch.rand(1)
        torch.manual_seed(5)
        said = Monitor(log, pack, SPEC, config).check(3, model)
        assert torch.equal(torch.rand(1), expected)  # the run's random state is its own
        assert len(log.records) == 1
    assert f"({twin['rank_me']:.1f})" in said


def test_the_verdict_reads_the_steps_on_record(config, pack, path):
    model = fresh(config)
    with RunLog(path) as log:
        checks = Monitor(log, pack, SPEC, config)
        checks.start(model)
        for step in (1, 2):
            log.write({"step": step, "loss": 0.5, "skipped_steps": step})
        assert "warn (steps_skipped)" in checks.check(2, model)


def test_images_are_a_fixed_part_and_queries_keep_out_of_the_bank(config, monkeypatch):
    pack = tiny_pack(60, labelled=True)
    bank, query = monitor._split(pack, seed=0)
    assert sorted([*bank, *query]) == list(range(60))
    assert len(query) == 6
    monkeypatch.setattr(monitor, "KNN_IMAGES", 20)
    bank, query = monitor._split(pack, seed=0)
    assert (len(bank), len(query)) == (18, 2)
    assert not set(bank) & set(query)
    monkeypatch.setattr(monitor, "IMAGES", 10)
    one, two = (Monitor(None, pack, SPEC, config)._images for _ in range(2))
    assert len(one) == 10
    assert np.array_equal(one, two)
