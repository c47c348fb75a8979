import json

import pytest
import torch

from bootleg_bundle.preprocess import PreprocessSpec
from bootleg_training.engine.schedule import StepRates
from bootleg_training.health import monitor
from bootleg_training.health.monitor import RunLog, knn_check, measured_step
from tests.training.tiny import loss_of, tiny_batch, tiny_model, tiny_pack

SPEC = PreprocessSpec(height=32, width=32)


def test_a_line_holds_what_was_measured(tmp_path, config, pack):
    loss = loss_of(tiny_model(config), tiny_batch(config, pack))
    measured = measured_step(loss, torch.tensor(2.5), torch.tensor(1.0))
    with RunLog(tmp_path / "metrics.jsonl") as log:
        note = log.step(7, 56, 1.239, StepRates(1e-3, 0.05, 0.99), measured)
    record = json.loads((tmp_path / "metrics.jsonl").read_text())
    assert (record["step"], record["images"], record["seconds"]) == (7, 56, 1.24)
    assert (record["lr"], record["weight_decay"], record["momentum"]) == (1e-3, 0.05, 0.99)
    assert (record["grad_norm"], record["skipped_steps"]) == (2.5, 1)
    assert record["loss"] == pytest.approx(loss.total.item(), rel=1e-5)
    assert record["loss_per_layer"] == pytest.approx(loss.per_layer.tolist(), rel=1e-5)
    assert record["explained"] == pytest.approx(loss.explained().tolist(), rel=1e-4)
    assert record["target_std"] == pytest.approx(loss.target_std().tolist(), rel=1e-5)
    assert note.startswith(f"loss {record['loss']:.3f}")


def test_a_resumed_run_continues_its_record(tmp_path):
    for began, ended in ((0, 3), (2, 4)):  # the first was killed after its state of step 2
        with RunLog(tmp_path / "metrics.jsonl", from_step=began) as log:
            for step in range(began + 1, ended + 1):
                log.probe(step, "teacher", 0.51239, 3.14159)
    lines = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert lines == [{"step": step, "encoder": "teacher", "knn": 0.5124, "rank_me": 3.14} for step in (1, 2, 3, 4)]


def test_the_check_repeats_and_tells_dark_from_light(config):
    encoder = tiny_model(config).teacher
    pack = tiny_pack(60, labelled=True)
    accuracy, rank = knn_check(encoder, pack, SPEC, config)
    assert accuracy == 1.0
    assert 1 <= rank <= 32
    assert knn_check(encoder, pack, SPEC, config) == (accuracy, rank)


def test_bank_and_queries_do_not_meet_and_stay_bounded(monkeypatch):
    pack = tiny_pack(60, labelled=True)
    bank, query = monitor._split(pack, seed=0)
    assert sorted([*bank, *query]) == list(range(60))
    assert len(query) == 6
    monkeypatch.setattr(monitor, "IMAGES", 20)
    bank, query = monitor._split(pack, seed=0)
    assert (len(bank), len(query)) == (18, 2)
    assert not set(bank) & set(query)
