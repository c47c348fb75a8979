"""The study: what a run is called, that a second call probes nothing again, and the tables made of its rows."""

import json

import numpy as np
import pytest
import torch

from benchmarks import study, tables
from bootleg_bundle.errors import DataError
from bootleg_training.engine.loop import train
from tests.training.tiny import CPU, tiny_config, tiny_pack

KINDS = ("knn", "linear")


@pytest.fixture(scope="module")
def bench():
    return study.Bench(tiny_pack(24, labelled=True, side=32), tiny_pack(12, labelled=True, side=32), CPU)


@pytest.fixture(scope="module")
def runs(tmp_path_factory, bench):
    folder = tmp_path_factory.mktemp("runs")
    for seed in (0, 1):
        train(tiny_config(images=16, seed=seed), bench.train, folder / f"bootleg-s{seed}", device=CPU)
    (folder / "unfinished").mkdir()
    return folder


def test_rows_hold_runs_twins_and_pixels_and_a_second_call_probes_nothing(runs, bench, monkeypatch):
    rows = study.study(runs, bench, KINDS, ("teacher", "student"))
    counted = {(row["method"], row["which"], row["seed"], row["probe"]) for row in rows}
    expected = {("Bootleg", which, s, kind) for which in ("teacher", "student") for s in (0, 1) for kind in KINDS}
    expected |= {("random init", "untrained", s, kind) for s in (0, 1) for kind in KINDS}
    assert counted == expected | {("raw pixels averaged to 8 px", "", 0, kind) for kind in KINDS}
    assert len(rows) == len(counted)
    assert all(0 <= row["accuracy"] <= 1 for row in rows)
    fields = ["method", "target_layers", "encoder", "data", "steps", "images", "seed", "which", "probe", "accuracy"]
    assert all(sorted(row) == sorted(fields) for row in rows)

    def never(*args, **kwargs):
        raise AssertionError("probed again")

    monkeypatch.setattr(study, "score", never)
    monkeypatch.setattr(study, "score_pooled", never)
    assert study.study(runs, bench, KINDS, ("teacher", "student")) == rows
    only = study.study(runs, bench, KINDS, ("teacher",), only=["bootleg-s1"])
    assert {row["seed"] for row in only if row["method"] == "Bootleg"} == {1}


def test_other_images_are_probed_anew(runs, bench):
    study.study(runs, bench, ("knn",), ("teacher",))
    before = json.loads((runs / "bootleg-s0" / study.PROBES).read_text())
    other = study.Bench(bench.train, tiny_pack(10, labelled=True, side=32), CPU)
    study.study(runs, other, ("knn",), ("teacher",))
    after = json.loads((runs / "bootleg-s0" / study.PROBES).read_text())
    assert before.items() < after.items()


def test_no_finished_run_or_other_preprocessing_is_said(tmp_path, runs, bench):
    with pytest.raises(DataError, match="no finished run"):
        study.study(tmp_path, bench, KINDS, ("teacher",))
    wrong = study.Bench(bench.train, tiny_pack(12, labelled=True, side=40), CPU)
    with pytest.raises(DataError, match="was not made"):
        study.study(runs, wrong, KINDS, ("teacher",))


def test_pixels_are_normalised_rows_averaged_to_eight_a_side(bench):
    x = study.pixels(bench.test)
    first = torch.from_numpy(np.array(bench.test.images[0])).float() / 255
    spec = bench.test.preprocess
    expected = (first - torch.tensor(spec.mean)) / torch.tensor(spec.std)
    assert x.shape == (12, 8 * 8 * 3)
    averaged = expected.reshape(8, 4, 8, 4, 3).mean(dim=(1, 3)).movedim(-1, 0)
    torch.testing.assert_close(x[0], averaged.reshape(-1))


def test_few_pixels_stay_as_they_are():
    assert study.pixels(tiny_pack(5, side=8)).shape == (5, 8 * 8 * 3)


def row(method, layers, images, seed, probe, accuracy, which="teacher"):  # noqa: PLR0917
    return {
        "method": method,
        "target_layers": layers,
        "encoder": "e",
        "data": "d",
        "steps": images // 10,
        "images": images,
        "seed": seed,
        "which": which,
        "probe": probe,
        "accuracy": accuracy,
    }


ROWS = [
    row("random init", [], 0, 0, "knn", 0.2, "untrained"),
    row("Bootleg", [1, 2, 3], 250_000, 0, "knn", 0.40),
    row("Bootleg", [1, 2, 3], 250_000, 1, "knn", 0.42),
    row("Bootleg", [1, 2, 3], 250_000, 0, "linear", 0.5),
    row("Bootleg", [1, 2, 3], 100_000, 0, "knn", 0.35),
    row("I-JEPA", [3], 100_000, 0, "knn", 0.30),
    row("layers 1,3", [1, 3], 100_000, 0, "knn", 0.36),
    row("layers 2", [2], 100_000, 0, "attentive", 0.37),
    row("layers 2, per-channel targets", [2], 100_000, 0, "attentive", 0.99),
    row("Bootleg, per-channel targets", [1, 2, 3], 250_000, 0, "knn", 0.44),
    row("Bootleg, per-channel targets", [1, 2, 3], 100_000, 0, "knn", 0.99),
]


def test_the_study_table_has_means_over_seeds_of_the_longest_runs():
    assert tables.TABLES["study"](ROWS).splitlines()[2:] == [
        "| Bootleg | teacher | 25,000 | 2 | 41.0 ± 1.4 % | 50.0 % |  |",
        "| Bootleg, per-channel targets | teacher | 25,000 | 1 | 44.0 % |  |  |",
        "| random init | untrained |  | 1 | 20.0 % |  |  |",
    ]


def test_the_layer_table_has_every_set_at_the_curve_s_length():
    assert tables.TABLES["study:layers"](ROWS).splitlines()[2:] == [
        "| 2 | teacher | 10,000 | 1 |  |  | 37.0 % |",
        "| 1, 3 | teacher | 10,000 | 1 | 36.0 % |  |  |",
        "| 1, 2, 3 | teacher | 10,000 | 1 | 35.0 % |  |  |",
    ]


def test_training_tables_take_their_own_rows():
    about = {"encoder": "e", "device": "cpu", "batch": 8}
    rows = [
        {"step": "plain", **about, "images_per_s": 100.0, "ratio": 1.0, "mfu": 0.251},
        {"step": "part: EMA", **about, "ms": 1.25, "share": 0.031},
        {"step": "update: EMA, a loop", **about, "ms": 2.5, "ratio": 1.0},
    ]
    assert tables.TABLES["training"](rows).splitlines()[2:] == ["| plain | e | 8 | 100 | 1.00 | 25 % |"]
    assert tables.TABLES["training:parts"](rows).splitlines()[2:] == ["| EMA | 1.2 ms, 3 % |"]
    assert tables.TABLES["training:updates"](rows).splitlines()[2:] == ["| EMA, a loop | e | 2.50 ms | 1.0 |"]


def test_a_slot_may_name_one_of_several_tables(monkeypatch):
    result = {"date": "d", "hardware": "h", "commit": "c", "command": "x", "rows": ROWS}
    asked = []
    monkeypatch.setattr(tables, "read_result", lambda name: asked.append(name) or result)
    text = tables.render("a\n<!-- results:study:layers -->\nold\n<!-- /results -->\nb")
    assert asked == ["study"]
    assert "| 1, 3 |" in text
    assert "old" not in text


def test_segmentation_has_a_line_an_encoder_and_a_column_a_head():
    about = {"data": "CamVid", "encoder": "e", "side": 224}
    rows = [
        {**about, "weights": "CIFAR-10, 1,000", "head": "knn", "miou": 0.25},
        {**about, "weights": "CIFAR-10, 1,000", "head": "linear", "miou": 0.3},
        {**about, "weights": "untrained twin", "head": "knn", "miou": 0.2},
    ]
    assert tables.TABLES["segmentation"](rows).splitlines()[2:] == [
        "| CamVid | e | CIFAR-10, 1,000 | 224 px | 25.0 % | 30.0 % |",
        "| CamVid | e | untrained twin | 224 px | 20.0 % |  |",
    ]
