"""``bootleg prepare``, ``train`` and ``probe`` end to end on images made here."""

import json
import os
import signal
from dataclasses import replace

import pytest
from click.testing import CliRunner

from bootleg_cli import main
from bootleg_training.checkpoint import load_encoder, read_config
from bootleg_training.data.pack import open_pack
from bootleg_training.engine import batch
from bootleg_training.engine.batch import make_batch
from bootleg_training.engine.stop import INTERRUPTED
from tests import images

SMALL = [
    "--preset", "cpu-smoke", "--device", "cpu",
    *[f"--set={s}" for s in ("encoder.width=32", "encoder.depth=2", "images=48", "batch_size=8", "precision=fp32")],
]  # fmt: skip


def bootleg(*arguments):
    return CliRunner().invoke(main, [str(argument) for argument in arguments], catch_exceptions=False)


@pytest.fixture
def folder(tmp_path):
    for label, kind in enumerate(("dark", "light")):
        (tmp_path / "data" / kind).mkdir(parents=True)
        for seed in range(12):
            picture = images.scene(seed=seed) // (1 if label else 4)
            (tmp_path / "data" / kind / f"{seed}.png").write_bytes(images.png(picture))
    return tmp_path / "data"


@pytest.fixture
def packed(folder, tmp_path):
    assert bootleg("prepare", folder, "--out", tmp_path / "pack", "--size", 32).exit_code == 0
    return tmp_path / "pack"


def test_from_a_folder_to_a_probed_checkpoint(packed, tmp_path):
    trained = bootleg("train", "--data", packed, "--out", tmp_path / "run", *SMALL)
    assert trained.exit_code == 0, trained.output
    assert str(tmp_path / "run" / "checkpoint") in trained.stdout
    probed = bootleg("probe", tmp_path / "run" / "checkpoint", "--train", packed, "--test", packed, "--record")
    assert probed.exit_code == 0, probed.output
    results = [json.loads(line) for line in probed.stdout.splitlines()]
    assert [result["probe"] for result in results] == ["knn", "linear"]
    recorded = read_config(tmp_path / "run" / "checkpoint").probes
    assert [probe.model_dump(mode="json") for probe in recorded] == results
    encoder, config = load_encoder(tmp_path / "run" / "checkpoint")
    assert encoder.config.width == 32
    assert config.run.name == "cpu-smoke"


def test_prepare_reports_what_was_left_out(folder, tmp_path):
    (folder / "dark" / "bad.png").write_bytes(images.png()[:100])
    result = bootleg("prepare", folder, "--out", tmp_path / "pack", "--size", 32, "--name", "light and dark")
    assert result.exit_code == 0
    assert "24 images of 32 x 32, 2 classes; 1 left out" in result.stdout
    assert "left out dark/bad.png" in result.stderr
    assert open_pack(tmp_path / "pack").name == "light and dark"


def test_a_stopped_run_exits_with_its_own_code_and_can_be_started_again(packed, tmp_path, monkeypatch):
    def stopping(config, images_BHWC, spec, step, world):
        if step == 2:
            os.kill(os.getpid(), signal.SIGTERM)
        return make_batch(config, images_BHWC, spec, step, world)

    with monkeypatch.context() as patch:
        patch.setattr(batch, "make_batch", stopping)
        stopped = bootleg("train", "--data", packed, "--out", tmp_path / "run", *SMALL)
    assert stopped.exit_code == INTERRUPTED == 75
    assert "stopped after step 3 of 6" in stopped.stderr
    again = bootleg("train", "--data", packed, "--out", tmp_path / "run", *SMALL)
    assert again.exit_code == 0
    assert "resumed at step 3" in again.stderr


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (["--set", "optim.base_lr=-1"], "optim.base_lr"),
        (["--set", "batch_size=1000"], "batch_size is 1000"),
        (["--device", "tpu"], "tpu"),
    ],
)
def test_a_refusal_is_one_line_and_exit_code_2(packed, tmp_path, arguments, named):
    result = bootleg("train", "--data", packed, "--out", tmp_path / "run", *SMALL, *arguments)
    assert result.exit_code == 2
    assert result.stderr.count("\n") == 1
    assert named in result.stderr


def test_a_checkpoint_that_is_none_is_refused(packed, tmp_path):
    result = bootleg("probe", tmp_path, "--train", packed, "--test", packed)
    assert result.exit_code == 2
    assert "is no checkpoint" in result.stderr


def test_too_many_bad_steps_end_in_one_line(packed, tmp_path, monkeypatch):
    def poisoned(config, images_BHWC, spec, step, world):
        drawn = make_batch(config, images_BHWC, spec, step, world)
        return replace(drawn, images_BHWC=drawn.images_BHWC * float("nan"))

    monkeypatch.setattr(batch, "make_batch", poisoned)
    result = bootleg(
        "train", "--data", packed, "--out", tmp_path / "run", *SMALL, "--set", "images=96", "--set", "log_every=1"
    )
    assert result.exit_code == 2
    assert "10 steps in a row" in result.stderr


def test_a_checkpoint_is_gone_on_from_with_its_own_encoder(packed, tmp_path):
    first = bootleg("train", "--data", packed, "--out", tmp_path / "first", *SMALL)
    assert first.exit_code == 0
    begun = ["train", "--data", packed, "--out", tmp_path / "second", "--init", tmp_path / "first" / "checkpoint"]
    settings = ["--preset", "cpu-smoke", "--device", "cpu", "--set=images=16", "--set=batch_size=8"]
    second = bootleg(*begun, *settings)
    assert second.exit_code == 0, second.stderr
    assert "begins with" in second.stderr
    config = read_config(tmp_path / "second" / "checkpoint")
    assert (config.encoder.width, config.encoder.depth) == (32, 2)
    parent = read_config(tmp_path / "first" / "checkpoint")
    assert config.run.optim.base_lr < parent.run.optim.base_lr
    assert config.provenance.ancestors == parent.provenance.lineage
    assert [a.checkpoint_sha256 for a in config.provenance.ancestors] == [parent.provenance.checkpoint_sha256]
    refused = bootleg(*begun[:4], tmp_path / "third", *begun[5:], *settings, "--set=encoder.depth=3")
    assert refused.exit_code == 2
    assert "depth" in refused.stderr
