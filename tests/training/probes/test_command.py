"""``bootleg probe`` as it is called."""

import json

import numpy as np
import pytest
from click.testing import CliRunner

from bootleg_cli import main
from bootleg_training.checkpoint import read_config
from bootleg_training.probes import segment
from bootleg_training.probes.pixel_head import HeadSettings, segment_pixels
from tests import images
from tests.training.probes import scenery


def probe(*arguments):
    return CliRunner().invoke(main, ["probe", *[str(a) for a in arguments]], catch_exceptions=False)


def packed(folder, start):
    for label, kind in enumerate(("dark", "light")):
        (folder / kind).mkdir(parents=True)
        for seed in range(start, start + 10):
            picture = images.scene(32, 32, seed=seed) // (1 if label else 4)
            (folder / kind / f"{seed}.png").write_bytes(images.png(picture.astype(np.uint8)))
    pack = folder.with_suffix(".pack")
    made = CliRunner().invoke(
        main, ["prepare", str(folder), "--out", str(pack), "--size", "32"], catch_exceptions=False
    )
    assert made.exit_code == 0, made.output
    return pack


@pytest.fixture
def packs(tmp_path):
    return packed(tmp_path / "a", 0), packed(tmp_path / "b", 50)


@pytest.fixture
def folders(tmp_path):
    return [scenery.write(tmp_path / "blocks" / part, scenery.scenes(4, seed=seed)) for seed, part in enumerate("ab")]


def lines(result):
    assert result.exit_code == 0, result.output
    return [json.loads(line) for line in result.stdout.splitlines()]


def test_packs_and_a_segmentation_set_in_one_call_and_recorded(saved, packs, folders, monkeypatch):
    monkeypatch.setattr(segment, "GRID", 8)
    brief = HeadSettings(iterations=3)
    monkeypatch.setattr(segment, "segment_pixels", lambda train, test, _: segment_pixels(train, test, brief))
    result = probe(
        saved, "--train", packs[0], "--test", packs[1], "--kind", "knn, linear-last4,pixel-head", "--device", "cpu",
        "--segmentation-train", folders[0], "--segmentation-test", folders[1], "--record",
    )  # fmt: skip
    found = lines(result)
    assert [line["probe"] for line in found] == ["knn", "linear-last4", "segmentation-knn", "segmentation-pixel-head"]
    assert [probe.model_dump(mode="json") for probe in read_config(saved).probes] == found
    assert "warning" not in result.stderr


def test_layers_students_and_a_cache(saved, packs, tmp_path):
    arguments = (saved, "--train", packs[0], "--test", packs[1], "--kind", "knn", "--which", "teacher,student",
                 "--layers", "--cache", tmp_path / "cache", "--precision", "fp32")  # fmt: skip
    found = lines(probe(*arguments))
    blocks = [f"{kind}-block-{block}" for kind in ("knn", "linear") for block in (1, 2, 3)]
    names = ["knn", *blocks]
    assert [line["probe"] for line in found] == [*names, *(f"{name}-student" for name in names)]
    assert lines(probe(*arguments)) == found
    assert read_config(saved).probes == ()


def test_the_same_images_on_both_sides_are_told(saved, packs, folders, monkeypatch):
    monkeypatch.setattr(segment, "GRID", 8)
    result = probe(saved, "--train", packs[0], "--test", packs[0], "--kind", "knn")
    assert "warning: --train and --test hold the same images" in result.stderr
    assert len(lines(result)) == 1
    result = probe(saved, "--segmentation-train", folders[0], "--segmentation-test", folders[0], "--kind", "knn")
    assert "warning: --segmentation-train and --segmentation-test are the same folder" in result.stderr


def test_a_person_at_a_terminal_gets_a_table_beside_the_lines(saved, packs, monkeypatch):
    arguments = (saved, "--train", packs[0], "--test", packs[1], "--kind", "knn")
    assert "untrained twin" not in probe(*arguments).stderr
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("COLUMNS", "160")
    result = probe(*arguments)
    assert "untrained twin" in result.stderr
    assert len(lines(result)) == 1


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        ((), "nothing to probe on"),
        (("--train", "x"), "--train and --test are given together"),
        (("--segmentation-test", "x"), "--segmentation-train and --segmentation-test are given together"),
        (("--train", "x", "--test", "x", "--kind", "pixel-head"), "--kind pixel-head needs --segmentation-train"),
        (("--segmentation-train", "x", "--segmentation-test", "x", "--kind", "attentive"), "attentive needs --train"),
        (("--segmentation-train", "x", "--segmentation-test", "x", "--layers"), "--layers needs --train"),
        (("--kind", "knn,best"), "'best': name some of knn, linear"),
        (("--which", ""), "name some of teacher, student"),
        (("--train", "x", "--test", "x", "--precision", "fp8"), "fp8"),
    ],
)
def test_what_cannot_be_meant_is_refused_with_exit_code_2(saved, arguments, named):
    result = probe(saved, *arguments)
    assert result.exit_code == 2
    assert named in result.stderr
    assert "Traceback" not in result.output
