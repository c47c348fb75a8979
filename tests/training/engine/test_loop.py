"""The real ``train``, whole runs of a dozen steps: resuming, stopping, bad steps, what is left behind."""

import json
import os
import signal
from dataclasses import replace

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from bootleg_bundle.errors import CheckpointError, DataError, DivergedError
from bootleg_training.checkpoint import load_encoder, read_config, weights_sha256
from bootleg_training.engine import batch, loop
from bootleg_training.engine.batch import Batch, make_batch
from bootleg_training.engine.divergence import replay, save_reproduction
from bootleg_training.engine.loop import Options, train
from bootleg_training.engine.progress import Progress
from bootleg_training.engine.stop import Interrupted
from bootleg_training.engine.trainer import Trainer
from tests.training.tiny import CPU, tiny_batch, tiny_config, tiny_pack

STEPS = 12


def run(config, pack, out, **options):
    return train(config, pack, out, device=CPU, options=Options(**options))


def at_step(monkeypatch, step, action):
    """Do something as the batch of ``step``, or of every step, is made: ``action`` may change the batch or raise."""

    def watched(config, images_BHWC, spec, now, world):
        drawn = make_batch(config, images_BHWC, spec, now, world)
        return (action(drawn) or drawn) if step in (now, None) else drawn

    monkeypatch.setattr(batch, "make_batch", watched)


def send(number):
    return lambda _: os.kill(os.getpid(), number)


def state(out, step=STEPS):
    return load_file(out / "state" / f"step-{step:09d}" / "state.safetensors")


def assert_same_run(one, two):
    """Student, predictor, teacher, moments and the encoder that is handed on are equal to the last bit."""
    first, second = state(one), state(two)
    assert set(first) == set(second)
    assert [name for name in first if not torch.equal(first[name], second[name])] == []
    kinds = {name.split(".")[0] for name in first} | {".".join(name.split(".")[:2]) for name in first}
    assert {"model.student", "model.predictor", "model.teacher", "exp_avg", "exp_avg_sq", "updates"} <= kinds
    assert read_config(one / "checkpoint").files == read_config(two / "checkpoint").files


def lines(out):
    return [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]


def steps(out):
    """The lines of steps, without those of checks."""
    return [line for line in lines(out) if "loss" in line]


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_a_run_stopped_by_a_signal_and_resumed_equals_the_uninterrupted_one(tmp_path, pack, monkeypatch, precision):
    config = tiny_config(precision=precision)
    run(config, pack, tmp_path / "whole")
    with monkeypatch.context() as patch:
        at_step(patch, 5, send(signal.SIGTERM))
        with pytest.raises(Interrupted, match="stopped after step 6 of 12"):
            run(config, pack, tmp_path / "parts")
    assert not (tmp_path / "parts" / "checkpoint").exists()
    run(config, pack, tmp_path / "parts")
    assert_same_run(tmp_path / "whole", tmp_path / "parts")
    assert [line["step"] for line in steps(tmp_path / "parts")] == list(range(1, STEPS + 1))


def test_a_run_that_crashed_between_saves_is_repeated_from_the_last_one(tmp_path, pack, monkeypatch):
    config = tiny_config(save_every=4)
    run(config, pack, tmp_path / "whole")

    def crash(_):
        raise MemoryError

    with monkeypatch.context() as patch:
        at_step(patch, 10, crash)
        with pytest.raises(MemoryError):
            run(config, pack, tmp_path / "parts")
    assert (tmp_path / "parts" / "state" / "latest").read_text() == "step-000000008"
    run(config, pack, tmp_path / "parts")
    assert_same_run(tmp_path / "whole", tmp_path / "parts")


def test_saving_more_often_does_not_change_the_run(tmp_path, pack):
    run(tiny_config(), pack, tmp_path / "whole")
    run(tiny_config(save_every=3, log_every=5), pack, tmp_path / "saved")
    assert_same_run(tmp_path / "whole", tmp_path / "saved")


def test_watching_a_labelled_pack_does_not_change_the_run(tmp_path):
    labelled = tiny_pack(labelled=True)
    blind = replace(labelled, labels=None, classes=())
    run(tiny_config(probe_every=5), labelled, tmp_path / "watched")
    run(tiny_config(probe_every=5), blind, tmp_path / "blind")
    assert_same_run(tmp_path / "watched", tmp_path / "blind")


def test_a_labelled_pack_is_scored_before_during_and_after(tmp_path):
    run(tiny_config(probe_every=5), tiny_pack(labelled=True), tmp_path / "run")
    checks = [line for line in lines(tmp_path / "run") if "knn" in line]
    assert [(check["step"], check["encoder"]) for check in checks] == [
        (0, "random_init"),
        (5, "teacher"),
        (10, "teacher"),
        (12, "teacher"),
    ]
    assert all(0 <= check["knn"] <= 1 and check["rank_me"] >= 1 for check in checks)
    assert checks[-1]["knn"] == 1.0  # dark against light


def test_the_same_seed_repeats_and_another_differs(tmp_path, pack):
    for name, seed in (("one", 3), ("again", 3), ("other", 4)):
        run(tiny_config(seed=seed), pack, tmp_path / name)
    assert_same_run(tmp_path / "one", tmp_path / "again")
    one, other = state(tmp_path / "one"), state(tmp_path / "other")
    assert not torch.equal(one["model.student.patch_embed.weight"], other["model.student.patch_embed.weight"])


def test_the_checkpoint_is_the_teacher_and_says_where_it_comes_from(tmp_path, pack):
    config = tiny_config()
    target = run(config, pack, tmp_path / "run")
    encoder, saved = load_encoder(target)
    tensors = state(tmp_path / "run")
    for name, parameter in encoder.named_parameters():
        assert torch.equal(parameter, tensors[f"model.teacher.{name}"])
    source = saved.provenance
    assert (source.dataset, source.dataset_fingerprint) == (pack.name, pack.fingerprint)
    assert (source.steps, source.images_seen) == (STEPS, 96)
    assert source.checkpoint_sha256 == weights_sha256(dict(encoder.named_parameters()))
    assert {"torch", "pillow", "python"} <= set(source.versions)
    assert saved.run == config
    assert (saved.preprocess.height, saved.preprocess.width) == (32, 32)


def test_the_loss_falls(tmp_path, pack):
    run(tiny_config(images=8 * 40, optim={"base_lr": 0.05}), pack, tmp_path / "run")
    losses = [line["loss"] for line in steps(tmp_path / "run")]
    assert losses[0] == pytest.approx(1.0, abs=0.1)
    assert np.mean(losses[-5:]) < 0.8


def test_every_step_is_logged_with_its_rates(tmp_path, pack):
    run(tiny_config(), pack, tmp_path / "run")
    last = steps(tmp_path / "run")[-1]
    assert (last["step"], last["images"], last["skipped_steps"]) == (12, 96, 0)
    assert len(last["loss_per_layer"]) == len(last["explained"]) == len(last["target_std"]) == 3
    assert last["loss"] == pytest.approx(np.mean(last["loss_per_layer"]), rel=1e-4)
    assert 0 < last["momentum"] <= 1
    assert last["lr"] > 0
    assert last["memory"] > 2**20


def test_a_finished_run_is_left_as_it_is(tmp_path, pack):
    first = run(tiny_config(), pack, tmp_path / "run")
    before = {path: path.read_bytes() for path in first.iterdir()}
    assert run(tiny_config(), pack, tmp_path / "run") == first
    assert {path: path.read_bytes() for path in first.iterdir()} == before


def test_a_run_resumed_with_other_settings_is_refused_and_keeps_its_record(tmp_path, pack, monkeypatch):
    with monkeypatch.context() as patch:
        at_step(patch, 2, send(signal.SIGINT))
        with pytest.raises(Interrupted):
            run(tiny_config(), pack, tmp_path / "run")
    with pytest.raises(CheckpointError, match="images was 96, now 192"):
        run(tiny_config(images=192), pack, tmp_path / "run")
    assert json.loads((tmp_path / "run" / "config.json").read_text())["images"] == 96


def test_signals_act_as_before_when_the_run_is_over(tmp_path, pack):
    before = [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)]
    run(tiny_config(images=8), pack, tmp_path / "run")
    assert [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)] == before


def poison(drawn):
    return Batch(drawn.images_BHWC * float("nan"), drawn.visible_BV, drawn.rectangles_BMT)


def test_a_non_finite_step_is_skipped_and_counted(tmp_path, pack, monkeypatch):
    config = tiny_config(save_every=1)
    at_step(monkeypatch, 6, poison)
    run(config, pack, tmp_path / "run")
    assert [line["skipped_steps"] for line in steps(tmp_path / "run")] == [0] * 6 + [1] * 6
    assert all(torch.isfinite(tensor).all() for tensor in state(tmp_path / "run").values())
    record = json.loads((tmp_path / "run" / "state" / "step-000000012" / "state.json").read_text())
    assert record["skipped_steps"] == 1
    assert state(tmp_path / "run")["updates"] == 11


def test_a_skipped_step_leaves_the_whole_state_as_it_was(tmp_path, pack, monkeypatch):
    config = tiny_config(images=8 * 7, save_every=1)
    at_step(monkeypatch, 6, poison)
    run(config, pack, tmp_path / "run")
    before, after = state(tmp_path / "run", 6), state(tmp_path / "run", 7)
    assert [name for name in before if not torch.equal(before[name], after[name])] == []


def test_the_count_of_skipped_steps_survives_a_resume(tmp_path, pack, monkeypatch):
    with monkeypatch.context() as patch:
        at_step(patch, 2, poison)
        patch.setattr(loop, "rates", _stopping_rates(4))
        with pytest.raises(Interrupted):
            run(tiny_config(), pack, tmp_path / "run")
    run(tiny_config(), pack, tmp_path / "run")
    assert steps(tmp_path / "run")[-1]["skipped_steps"] == 1


def _stopping_rates(step):
    real = loop.rates

    def rates(config, images):
        if images == step * config.batch_size:
            os.kill(os.getpid(), signal.SIGTERM)
        return real(config, images)

    return rates


def test_too_many_bad_steps_in_a_row_stop_the_run_with_the_last_good_weights(tmp_path, pack, monkeypatch):
    at_step(monkeypatch, None, poison)
    with pytest.raises(DivergedError, match="10 steps in a row"):
        run(tiny_config(save_every=5), pack, tmp_path / "run")
    assert all(torch.isfinite(tensor).all() for tensor in state(tmp_path / "run", 5).values())
    assert not (tmp_path / "run" / "checkpoint").exists()
    finding = replay(tmp_path / "run" / "diverged", CPU)
    assert (finding.fault, finding.where) == ("teacher.patch_embed", "forward")
    kept = load_file(tmp_path / "run" / "diverged" / "step.safetensors")
    assert torch.equal(kept["model.student.norm.weight"], state(tmp_path / "run", 5)["model.student.norm.weight"])


def test_a_replay_finds_a_fault_in_the_backward_pass_and_none_in_a_sound_step(tmp_path, pack):
    trainer = Trainer(tiny_config(), CPU)
    drawn = tiny_batch(tiny_config(), pack)
    kept = save_reproduction(tmp_path / "sound", trainer, drawn, Progress(3, 24))
    with torch.no_grad():
        expected = float(trainer.model(drawn.images_BHWC, drawn.visible_BV, drawn.rectangles_BMT).total)
    finding = replay(kept, CPU)
    assert (finding.where, finding.fault) == ("nowhere", None)
    assert finding.loss == expected
    with pytest.raises(CheckpointError, match="holds no step"):
        replay(tmp_path, CPU)


@pytest.mark.parametrize("mode", ["resident", "mapped"])
def test_how_images_are_read_does_not_change_the_run(tmp_path, pack, mode):
    run(tiny_config(), pack, tmp_path / "auto")
    run(tiny_config(), pack, tmp_path / mode, mode=mode)
    assert_same_run(tmp_path / "auto", tmp_path / mode)


def test_a_longer_run_may_go_on_where_it_is_allowed_and_keeps_its_earlier_checkpoint(tmp_path, pack):
    out = tmp_path / "run"
    run(tiny_config(), pack, out)
    before = read_config(out / "checkpoint")
    run(tiny_config(images=128), pack, out, allow=frozenset({"images"}))
    assert read_config(out / "checkpoint").provenance.images_seen == 128
    assert read_config(out / "checkpoint-000000012") == before
    assert [line["step"] for line in steps(out)] == list(range(1, 17))
    assert torch.equal(load_encoder(out / "checkpoint")[0].norm.weight, state(out, 16)["model.teacher.norm.weight"])


def test_a_damaged_checkpoint_is_not_handed_out_as_the_runs(tmp_path, pack):
    target = run(tiny_config(images=8), pack, tmp_path / "run")
    (target / "encoder.safetensors").write_bytes(b"x")
    with pytest.raises(CheckpointError, match="SHA-256"):
        run(tiny_config(images=8), pack, tmp_path / "run")


def test_a_run_that_ends_with_spoilt_weights_hands_on_no_checkpoint(tmp_path, pack):
    with pytest.raises(DivergedError, match="features are not finite: no checkpoint"):
        run(tiny_config(images=32, optim={"base_lr": 1e38}), pack, tmp_path / "run")
    assert not (tmp_path / "run" / "checkpoint").exists()


def test_another_batch_size_goes_on_with_the_images_not_yet_seen(tmp_path, pack):
    config = tiny_config(images=64)
    run(config, pack, tmp_path / "run")
    allow = frozenset({"images", "batch_size"})
    run(tiny_config(images=128, batch_size=16), pack, tmp_path / "run", allow=allow)
    source = read_config(tmp_path / "run" / "checkpoint").provenance
    assert (source.steps, source.images_seen) == (8 + 4, 128)


def test_a_run_may_begin_from_a_checkpoint(tmp_path, pack):
    first = run(tiny_config(), pack, tmp_path / "first")
    frozen = tiny_config(images=8, optim={"base_lr": 1e-12, "ema_start": 1.0})
    second = run(frozen, pack, tmp_path / "second", init=first)
    before, after = load_encoder(first)[0], load_encoder(second)[0]
    for one, two in zip(before.parameters(), after.parameters(), strict=True):
        assert torch.equal(one, two)
    assert json.loads((tmp_path / "second" / "began.json").read_text())["init"] == "checkpoint"


def test_a_checkpoint_names_its_method_and_no_other(tmp_path, pack):
    target = run(tiny_config(images=8, target={"source": "pixels"}), pack, tmp_path / "pixels")
    assert read_config(target).provenance.method == "pixels, with the code of Bootleg"
    target = run(tiny_config(images=8, target={"normalise": "instance"}), pack, tmp_path / "channels")
    assert read_config(target).provenance.method == "Bootleg, per-channel targets (arXiv 2603.15553)"


def test_a_resumed_run_says_that_it_does_not_begin_anew(tmp_path, pack, capsys):
    first = run(tiny_config(images=8), pack, tmp_path / "first")
    run(tiny_config(images=8), pack, tmp_path / "second", init=first)
    assert "is not read" not in capsys.readouterr().err
    run(tiny_config(images=8), pack, tmp_path / "second", init=first)
    assert "is not read: the run goes on from its own state" in " ".join(capsys.readouterr().err.split())


def test_a_pack_smaller_than_a_batch_is_refused_with_both_numbers(tmp_path):
    with pytest.raises(DataError, match="batch_size is 8, but the pack has 5"):
        run(tiny_config(), tiny_pack(5), tmp_path / "run")


def test_a_batch_is_a_function_of_seed_and_step(pack):
    one, again, later = (tiny_batch(tiny_config(), pack, step) for step in (3, 3, 4))
    for field in ("images_BHWC", "visible_BV", "rectangles_BMT"):
        assert torch.equal(getattr(one, field), getattr(again, field))
    assert not torch.equal(one.images_BHWC, later.images_BHWC)
    assert not torch.equal(one.visible_BV, later.visible_BV)


def test_visible_and_target_counts_are_constant_in_a_batch(pack):
    drawn = tiny_batch(tiny_config(), pack)
    assert drawn.images_BHWC.shape == (8, 32, 32, 3)
    assert drawn.visible_BV.shape == (8, 19)
    assert drawn.rectangles_BMT.shape[:2] == (8, 4)
    assert drawn.images_BHWC.dtype == torch.float32


def test_a_run_resumed_on_other_images_is_refused_with_both_fingerprints(tmp_path, pack, monkeypatch):
    with monkeypatch.context() as patch:
        at_step(patch, 2, send(signal.SIGTERM))
        with pytest.raises(Interrupted):
            run(tiny_config(), pack, tmp_path / "run")
    other = tiny_pack(39)
    with pytest.raises(DataError, match=f"{pack.fingerprint}.*{other.fingerprint}"):
        run(tiny_config(), other, tmp_path / "run")
    run(tiny_config(), pack, tmp_path / "run")


def test_a_pack_smaller_than_the_encoders_input_is_refused(tmp_path):
    with pytest.raises(DataError, match="prepare the data with --size 32"):
        run(tiny_config(), tiny_pack(side=24), tmp_path / "run")
