import pytest

from bootleg_bundle.preprocess import PreprocessSpec
from bootleg_training.track.curves import learning, machinery
from bootleg_training.track.folder import RunFolder, read_run
from bootleg_training.track.record import Record
from tests.training.tiny import tiny_pack
from tests.training.track.runs import step_line, write_old_run, write_run

SPEC = PreprocessSpec(height=32, width=32)


def run_of(*lines, **config):
    return RunFolder(None, {"batch_size": 8, **config}, {}, Record(list(lines)), {})


def by_title(curves):
    return {curve.title: curve for curve in curves}


def test_a_run_of_today_shows_everything(tmp_path, config):
    write_run(tmp_path / "run", config, tiny_pack(40, labelled=True), SPEC, finished=False)
    run = read_run(tmp_path / "run")
    assert list(by_title(learning(run))) == [
        "Share of the targets' variance explained", "Loss", "Target standard deviation", "k-NN accuracy", "RankMe",
        "alpha-ReQ", "Cosine of two images", "Cosine of student and teacher",
    ]  # fmt: skip
    assert list(by_title(machinery(run))) == [
        "Learning rate", "Teacher's momentum", "Gradient norm", "Throughput", "Waiting for images",
        "Memory",
    ]  # fmt: skip
    rank = by_title(learning(run))["RankMe"]
    assert [line.name for line in rank.series] == ["layer 1", "layer 2", "layer 3", "embedding"]
    assert [x for x, _ in rank.series[-1].points] == [0, 16]
    assert [level.name for level in rank.levels] == ["untrained twin"]


def test_an_old_run_shows_what_it_has(tmp_path):
    write_old_run(tmp_path / "run")
    run = read_run(tmp_path / "run")
    assert list(by_title(learning(run))) == [
        "Share of the targets' variance explained", "Loss", "Target standard deviation", "k-NN accuracy", "RankMe",
    ]  # fmt: skip
    assert by_title(learning(run))["k-NN accuracy"].series[0].points == [(0, 0.225), (64, 0.395)]
    assert by_title(machinery(run))["Throughput"].series[0].points == [(64.0, pytest.approx(32 / 3))]


def test_layers_carry_their_numbers_where_they_are_known():
    known = run_of(step_line(1), target={"layers": [4, 12]})
    unknown = run_of(step_line(1), target={"layers": [1, 2, 3]})
    assert [line.name for line in learning(known)[0].series] == ["layer 4", "layer 12"]
    assert [line.name for line in learning(unknown)[0].series] == ["target 1", "target 2"]
    assert [line.tone for line in learning(known)[0].series] == [0, 1]


def test_nulls_and_missing_numbers_are_gaps():
    run = run_of(step_line(1), step_line(2, loss=None, explained=None), step_line(3, explained=[None, 0.5]))
    explained, loss = learning(run)[:2]
    assert [y for _, y in explained.series[0].points] == [0.5, None, None]
    assert [y for _, y in explained.series[1].points] == [0.25, None, 0.5]
    assert loss.series[-1].points[1] == (16, None)
    assert "<svg" in explained.html()


def test_skipped_steps_are_shown_only_where_there_were_some():
    assert "Skipped steps" not in by_title(machinery(run_of(step_line(1))))
    assert "Skipped steps" in by_title(machinery(run_of(step_line(1, skipped_steps=2))))


def test_a_run_without_steps_has_no_curves():
    assert learning(run_of()) == machinery(run_of()) == []


def test_a_figure_has_a_table_of_its_values():
    html = learning(run_of(step_line(1), step_line(4)))[1].html()
    assert '<th scope="row">mean</th><td>1</td><td>0.25</td><td>0.25</td><td>1</td>' in html
    assert '<th scope="row">target 1</th><td>1.5</td><td>0.375</td>' in html
