import json

import pytest
import torch

from bootleg_training.engine.schedule import StepRates
from bootleg_training.track.record import read_record
from bootleg_training.track.runlog import RunLog, measured_step
from tests.training.tiny import loss_of, tiny_batch, tiny_model

RATES = StepRates(1e-3, 0.05, 0.99)


class Heard:
    def __init__(self):
        self.calls = []
        self.closed = 0

    def log(self, step, numbers):
        self.calls.append((step, numbers))

    def close(self):
        self.closed += 1


@pytest.fixture
def path(tmp_path):
    return tmp_path / "metrics.jsonl"


def records(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


def measured(explained=(0.5, 0.25)):
    return {"loss": torch.tensor(0.5), "explained": torch.tensor(explained)}


def test_a_line_holds_what_was_measured(path, config, pack):
    loss = loss_of(tiny_model(config), tiny_batch(config, pack))
    tensors = measured_step(loss, torch.tensor(2.5), torch.tensor(1.0))
    with RunLog(path) as log:
        note = log.step(7, 56, 1.239, RATES, tensors, {"images_per_s": 45.2, "data_wait": 0.01})
    (record,) = records(path)
    assert (record["step"], record["images"], record["seconds"]) == (7, 56, 1.24)
    assert (record["lr"], record["weight_decay"], record["momentum"]) == (1e-3, 0.05, 0.99)
    assert (record["grad_norm"], record["skipped_steps"]) == (2.5, 1)
    assert (record["images_per_s"], record["data_wait"]) == (45.2, 0.01)
    assert record["loss"] == pytest.approx(loss.total.item(), rel=1e-5)
    assert record["loss_per_layer"] == pytest.approx(loss.per_layer.tolist(), rel=1e-5)
    assert record["explained"] == pytest.approx(loss.explained().tolist(), rel=1e-4)
    assert record["target_std"] == pytest.approx(loss.target_std().tolist(), rel=1e-5)
    assert note.startswith(f"loss {record['loss']:.3f}, explained % by layer: ")


def test_a_number_that_is_not_finite_is_null_and_the_note_says_it(path):
    with RunLog(path) as log:
        note = log.step(
            1, 8, 1.0, RATES, {"loss": torch.tensor(torch.nan), "explained": torch.tensor([torch.inf, 0.5])}
        )
    assert "nan" in note
    assert "NaN" not in path.read_text()
    assert (records(path)[0]["loss"], records(path)[0]["explained"]) == (None, [None, 0.5])


def test_a_resumed_run_continues_its_record(path):
    for began, ended in ((0, 3), (2, 4)):  # the first was killed after its state of step 2
        with RunLog(path, from_step=began) as log:
            assert [record["step"] for record in log.records] == list(range(began + 1))[1:]
            for step in range(began + 1, ended + 1):
                log.write({"step": step, "value": step / 2})
    assert records(path) == [{"step": step, "value": step / 2} for step in (1, 2, 3, 4)]
    assert log.records == records(path)


def test_a_run_that_begins_anew_forgets_the_dead_one(path):
    path.write_text('{"step": 0, "encoder": "random_init"}\n{"step": 3}\n')
    with RunLog(path) as log:
        assert log.records == []
    assert path.read_text() == ""


def test_damaged_lines_are_left_out_and_counted(path):
    path.write_bytes(
        b'{"step": 1}\n\0\0\0\n[1]\n{"loss": 2}\n{"step": "1"}\n{"step": true}\n{"step": 2}\n{"step": 3, "lo'
    )
    with RunLog(path, from_step=9) as log:
        assert log.records == [{"step": 1}, {"step": 2}]
        assert log.damaged == 6
    assert records(path) == [{"step": 1}, {"step": 2}]


def test_every_line_is_on_disk_when_written(path):
    with RunLog(path) as log:
        log.write({"step": 1})
        assert records(path) == [{"step": 1}]


def test_a_process_that_does_not_lead_keeps_its_records_in_memory():
    from pathlib import Path

    with RunLog(Path("/dev/null")) as log:
        log.write({"step": 0})
        assert log.records == [{"step": 0}]
    assert Path("/dev/null").is_char_device()


def test_trackers_get_every_number_and_are_closed(path):
    one, two = Heard(), Heard()
    with RunLog(path, trackers=(one, two)) as log:
        log.step(5, 40, 1.0, RATES, measured())
        log.write({"step": 5, "encoder": "teacher", "rank_me": 3, "cosine_layers": [0.5, None], "flag": True})
    assert one.calls == two.calls
    assert one.calls[0] == (
        5,
        {"images": 40, "seconds": 1, "loss": 0.5, "explained/0": 0.5, "explained/1": 0.25}
        | {"lr": 1e-3, "weight_decay": 0.05, "momentum": 0.99},
    )
    assert one.calls[1] == (5, {"rank_me": 3.0, "cosine_layers/0": 0.5})
    assert (one.closed, two.closed) == (1, 1)


def test_trackers_are_closed_when_the_run_fails(path):
    heard = Heard()
    with pytest.raises(ZeroDivisionError), RunLog(path, trackers=(heard,)):
        1 / 0  # noqa: B018
    assert heard.closed == 1


def test_a_record_is_read_by_kind_and_by_today_s_names(path):
    path.write_text('{"step": 0, "encoder": "random_init"}\n{"step": 1, "loss": 1, "explained_per_layer": [0.5]}\nx\n')
    record = read_record(path)
    assert record.checks == [{"step": 0, "encoder": "random_init"}]
    assert record.steps == [{"step": 1, "loss": 1, "explained": [0.5]}]
    assert record.damaged == 1
    assert read_record(path.with_name("none")).lines == []


@pytest.mark.parametrize(
    "line",
    [
        '{"step": 3, "rank_me": "high"}',
        '{"step": 3, "loss": {"a": 1}}',
        '{"step": 3, "explained": [0.1, "x"]}',
        '{"step": -3, "loss": 1.0}',
        '{"step": 3, "explained": 0.5}',
        '{"step": 3, "knn": [0.5]}',
        '{"step": 3, "token_std_layers": 0.5}',
        '{"step": 3, "encoder": 7}',
        '{"step": 3, "loss": 1',
    ],
)
def test_a_line_that_a_person_or_a_crash_has_spoilt_is_counted_and_left_out(path, line):
    path.write_text('{"step": 2, "loss": null, "explained": [0.1, null], "why": "text"}\n' + line + "\n")
    record = read_record(path)
    assert ([found["step"] for found in record.lines], record.damaged) == ([2], 1)
