import json
import os
import shutil
from pathlib import Path

import pytest
import torch

from bootleg_bundle.errors import CheckpointError
from bootleg_training import checkpoint
from bootleg_training.engine import state
from bootleg_training.engine.optimiser import build_optimiser, trained_parameters, update
from bootleg_training.engine.progress import Progress
from bootleg_training.engine.resume import load_state
from bootleg_training.engine.schedule import StepRates
from bootleg_training.engine.state import POINTER, save_state
from tests.training.tiny import loss_of, tiny_batch, tiny_config, tiny_model, tiny_pack

CONFIG = tiny_config(encoder={"depth": 2})
PACK = tiny_pack(8)


class Run:
    """A model and its optimiser after some real steps."""

    def __init__(self, config=CONFIG, seed=0):
        self.config = config
        self.model = tiny_model(config, seed)
        self.optimiser = build_optimiser(self.model, config.optim)
        self.steps = 0

    def step(self):
        loss = loss_of(self.model, tiny_batch(self.config, PACK, self.steps)).total
        loss.backward()
        _, taken = update(self.optimiser, loss, StepRates(1e-3, 0.05, 0.9), 3.0)
        self.model.update_teacher(0.9, taken)
        self.steps += 1
        return self

    def save(self, folder, **options):
        progress = Progress(self.steps, 8 * self.steps, 1.5, 0)
        return save_state(folder, self.model, self.optimiser, self.config, progress, **options)

    def load(self, folder, config=CONFIG, *, allow=()):
        """Where the run stands; the notes are kept in ``notes``."""
        loaded = load_state(folder, self.model, self.optimiser, config, allow=frozenset(allow))
        progress, self.notes = loaded or (None, [])
        return progress

    def numbers(self):
        out = {name: p.detach().clone() for name, p in self.model.named_parameters()}
        for name, parameter in trained_parameters(self.model).items():
            for key, value in self.optimiser.state[parameter].items():
                out[f"{key} {name}"] = value.clone()
        return out


def same(one, two):
    return set(one) == set(two) and all(torch.equal(one[name], two[name]) for name in one)


def test_everything_is_loaded_as_it_was_saved(tmp_path):
    run = Run().step().step()
    run.save(tmp_path)
    other = Run(seed=1)
    assert other.load(tmp_path) == Progress(2, 16, 1.5, 0)
    assert same(run.numbers(), other.numbers())
    other.steps = 2
    assert same(run.step().numbers(), other.step().numbers())


def test_no_state_is_no_error(tmp_path):
    run = Run()
    before = [p.clone() for p in run.model.parameters()]
    assert run.load(tmp_path) is None
    assert run.load(tmp_path / "absent") is None
    assert all(torch.equal(a, b) for a, b in zip(before, run.model.parameters(), strict=True))


def test_only_the_newest_states_are_kept(tmp_path):
    run = Run()
    for _ in range(4):
        run.step().save(tmp_path, keep=2)
    assert sorted(p.name for p in tmp_path.iterdir()) == [POINTER, "step-000000003", "step-000000004"]


@pytest.mark.parametrize("keep", [1, 2])
def test_the_newest_state_survives_leftovers_of_a_longer_run(tmp_path, keep):
    for step in (500, 1000):
        (tmp_path / f"step-{step:09d}").mkdir()
    run = Run().step()
    run.save(tmp_path, keep=keep)
    assert Run(seed=1).load(tmp_path).step == 1


def test_saving_the_same_step_again_replaces_it(tmp_path):
    Run(seed=1).step().save(tmp_path)
    run = Run().step()
    run.save(tmp_path)
    other = Run(seed=2)
    other.load(tmp_path)
    assert same(run.numbers(), other.numbers())


def half_written(tensors, path):
    Path(path).write_bytes(b"half of a file")
    raise OSError("no space left on device")


def failing(*_, **__):
    raise OSError("no space left on device")


def failing_at(real, call):
    """``real``, whose ``call``-th use (from 0) fails."""
    count = iter(range(1000))

    def function(*args, **kwargs):
        if next(count) == call:
            raise OSError("no space left on device")
        return real(*args, **kwargs)

    return function


CRASHES = {
    "while writing the tensors": (checkpoint, "save_file", half_written),
    "flushing the tensors": (checkpoint, "flush", failing_at(checkpoint.flush, 0)),
    "writing the record": (Path, "write_text", failing_at(Path.write_text, 0)),
    "flushing the record": (state, "flush", failing_at(state.flush, 0)),
    "renaming the directory": (Path, "rename", failing),
    "writing the pointer": (Path, "write_text", failing_at(Path.write_text, 1)),
    "flushing the pointer": (state, "flush", failing_at(state.flush, 3)),
    "replacing the pointer": (os, "replace", failing),
    "flushing the folder": (state, "flush", failing_at(state.flush, 4)),
    "forgetting an old state": (shutil, "rmtree", failing_at(shutil.rmtree, 2)),
}


@pytest.mark.parametrize("crash", CRASHES)
def test_a_crash_while_saving_leaves_a_whole_state_to_load(tmp_path, monkeypatch, crash):
    run, known = Run(), {}
    for _ in range(2):
        run.step().save(tmp_path)
        known[run.steps] = run.numbers()
    run.step()
    known[3] = run.numbers()
    with monkeypatch.context() as patch:
        patch.setattr(*CRASHES[crash])
        with pytest.raises(OSError, match="no space left"):
            run.save(tmp_path)
    other = Run(seed=1)
    progress = other.load(tmp_path)
    assert progress.step in {2, 3}
    assert same(other.numbers(), known[progress.step])
    other.steps = 2  # and the run goes on: step 3 again, over whatever the crash left
    other.load(tmp_path)
    other.steps = 3
    run.save(tmp_path)
    assert other.load(tmp_path).step == 3
    assert same(other.numbers(), known[3])


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"seed": 1}, "seed was 0, now 1"),
        ({"images": 200}, "images was 96, now 200"),
        ({"batch_size": 4}, "batch_size was 8, now 4"),
        ({"optim": {"clip": 1.0}}, "optim"),
        ({"encoder": {"depth": 2, "registers": 2}}, "encoder"),
        ({"mask": {"visible": 0.25}}, "mask"),
        ({"precision": "bf16"}, "precision was fp32, now bf16"),
    ],
)
def test_other_settings_are_refused_by_their_name(tmp_path, change, named):
    Run().step().save(tmp_path)
    encoder = {"depth": 2}
    changed = tiny_config(**{"encoder": encoder, **change})
    with pytest.raises(CheckpointError, match=named):
        Run().load(tmp_path, changed)


def test_how_often_to_report_and_save_is_free_to_change(tmp_path):
    Run().step().save(tmp_path)
    changed = tiny_config(encoder={"depth": 2}, log_every=7, probe_every=7, save_every=7, name="renamed")
    assert Run().load(tmp_path, changed).step == 1


def test_a_setting_that_is_younger_than_the_state_counts_as_its_default(tmp_path):
    record = Run().step().save(tmp_path) / "state.json"
    fields = json.loads(record.read_text())
    del fields["config"]["mask"]["views"]
    record.write_text(json.dumps(fields))
    assert Run().load(tmp_path).step == 1


def alter(source, **fields):
    record = source / "state.json"
    record.write_text(json.dumps(json.loads(record.read_text()) | fields))


def damage_tensors(source):
    path = source / "state.safetensors"
    path.write_bytes(path.read_bytes()[:-100])


@pytest.mark.parametrize(
    "damage",
    [
        damage_tensors,
        lambda source: (source / "state.safetensors").write_bytes(b""),
        lambda source: (source / "state.safetensors").unlink(),
        lambda source: (source / "state.json").write_text("{"),
        lambda source: (source / "state.json").unlink(),
        lambda source: (source / "state.json").write_text("[]"),
        lambda source: alter(source, step="two"),
        lambda source: alter(source, step=-1),
        lambda source: alter(source, skipped_steps=None),
        shutil.rmtree,
    ],
)
def test_a_damaged_state_is_refused_with_its_place(tmp_path, damage):
    damage(Run().step().save(tmp_path))
    with pytest.raises(CheckpointError, match="step-000000001"):
        Run().load(tmp_path)


def test_another_architecture_is_refused_unless_allowed(tmp_path):
    run = Run().step()
    run.save(tmp_path)
    wider = tiny_config(encoder={"depth": 2}, predictor={"depth": 3})
    other = Run(wider, seed=1)
    fresh = other.numbers()
    with pytest.raises(CheckpointError, match=r"predictor was .* --allow predictor"):
        other.load(tmp_path, wider)
    assert same(fresh, other.numbers())
    assert other.load(tmp_path, wider, allow=["predictor"]).step == 1
    saved, loaded = run.numbers(), other.numbers()
    shared = [name for name in saved if name in loaded and saved[name].shape == loaded[name].shape]
    assert same({name: saved[name] for name in shared}, {name: loaded[name] for name in shared})
    new = set(loaded) - set(saved)
    assert new
    assert all(name.startswith("predictor.") for name in new if " " not in name)
    assert any("tensors are new" in note for note in other.notes)
    other.steps = 1
    other.step()  # and it trains on


def test_an_allowed_change_is_noted_with_both_values(tmp_path):
    Run().step().save(tmp_path)
    longer = tiny_config(encoder={"depth": 2}, images=192)
    run = Run()
    assert run.load(tmp_path, longer, allow=["images"]).images == 8
    assert run.notes == ["images was 96, now 192: allowed"]


def test_a_state_older_than_the_count_of_images_gets_it_from_its_steps(tmp_path):
    record = Run().step().step().save(tmp_path) / "state.json"
    fields = json.loads(record.read_text())
    del fields["images"]
    record.write_text(json.dumps(fields))
    assert Run().load(tmp_path).images == 16


def test_a_damaged_state_says_which_older_one_there_is(tmp_path):
    run = Run().step()
    run.save(tmp_path)
    damage_tensors(run.step().save(tmp_path))
    with pytest.raises(CheckpointError, match="step-000000002 cannot be read; to go on from step-000000001, write"):
        Run().load(tmp_path)
    (tmp_path / POINTER).write_text("step-000000001")
    assert Run().load(tmp_path).step == 1


def test_without_its_pointer_the_last_state_is_taken_and_said(tmp_path):
    run = Run().step()
    for _ in range(2):
        run.step().save(tmp_path)
    (tmp_path / POINTER).unlink()
    (tmp_path / "step-000000009.partial").mkdir()
    assert run.load(tmp_path).step == 3
    assert run.notes == [f"{tmp_path / POINTER} is missing: took step-000000003"]


@pytest.mark.parametrize("content", [b"", b"\xff\x00", b"elsewhere", b"../state", b"step-1/../../other"])
def test_a_pointer_that_names_no_state_is_refused(tmp_path, content):
    Run().step().save(tmp_path)
    (tmp_path / POINTER).write_bytes(content)
    with pytest.raises(CheckpointError, match="latest names no state; to go on from step-000000001"):
        Run().load(tmp_path)


def test_what_a_killed_save_left_is_cleared_away(tmp_path):
    (tmp_path / "step-000000007.partial").mkdir()
    Run().step().save(tmp_path)
    assert sorted(p.name for p in tmp_path.iterdir()) == [POINTER, "step-000000001"]
