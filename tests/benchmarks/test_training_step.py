"""What the training benchmark reports is about the step that training takes."""

from unittest import mock

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from benchmarks import training_step
from benchmarks.step_parts import part_rows, step_in_parts, update_rows
from bootleg_bundle.preprocess import PreprocessSpec
from bootleg_training import vit
from bootleg_training.engine.batch import make_batch
from bootleg_training.engine.schedule import rates
from bootleg_training.engine.trainer import Trainer
from bootleg_training.objective import Bootleg
from tests.training.tiny import CPU, tiny_batch, tiny_config, tiny_pack

ABOUT = {"encoder": "tiny", "device": "cpu", "batch": 8}


@pytest.fixture
def small(monkeypatch):
    monkeypatch.setitem(training_step.MATMUL, "cpu", 64)


@pytest.mark.parametrize("changes", [{}, {"mask": {"views": 2}}, {"target": {"layers": (3,), "final_norm": True}}])
def test_the_parts_together_are_the_step(changes):
    config = tiny_config(**changes)
    images = torch.from_numpy(tiny_pack(8).images)
    spec = PreprocessSpec(height=32, width=32)
    whole, parted = Trainer(config, CPU), Trainer(config, CPU)
    for step in range(2):
        taken = whole.step(make_batch(config, images, spec, step), rates(config, config.images // 2))
        laps, loss = step_in_parts(parted, images, spec, step)
        assert loss == pytest.approx(taken.loss.total.item(), abs=1e-6)
        assert next(iter(laps)) == "masks and crop"
        assert list(laps)[-1] == "EMA"
    for ours, theirs in zip(whole.model.parameters(), parted.model.parameters(), strict=True):
        assert torch.equal(ours, theirs)


def test_shares_are_of_the_whole_step(config):
    images = torch.from_numpy(tiny_pack(8).images)
    rows = part_rows(Trainer(config, CPU), images, PreprocessSpec(height=32, width=32), 1, ABOUT)
    assert sum(row["share"] for row in rows) == pytest.approx(1, abs=1e-3)
    assert all(row["step"].startswith("part: ") for row in rows)


def test_updates_are_measured_against_the_loop(config):
    rows = {row["step"]: row for row in update_rows(Trainer(config, CPU).model, 2, CPU, ABOUT)}
    assert list(rows) == [
        "update: EMA, a loop",
        "update: EMA, foreach",
        "update: AdamW, a loop",
        "update: AdamW, fused",
    ]
    assert rows["update: EMA, a loop"]["ratio"] == rows["update: AdamW, a loop"]["ratio"] == 1


def test_every_arm_has_a_row_and_the_plain_step_is_the_base(config, pack, small):
    chosen = training_step.arms(config, CPU)
    rows = training_step.arm_rows(chosen, [tiny_batch(config, pack)], CPU, 1)
    assert [row["step"] for row in rows] == [arm.name for arm in chosen]
    assert rows[0] | {"ratio": 1.0} == rows[0]
    assert rows[0]["step"] == "I-JEPA, plain"
    assert all(row["images_per_s"] > 0 and row["mfu"] >= 0 for row in rows)


def test_our_attention_is_back_after_a_pass_with_another(config, pack):
    before = vit.attend
    arm = next(arm for arm in training_step.arms(config, CPU) if arm.attend)
    training_step.one_pass(arm, [tiny_batch(config, pack)], CPU)()
    assert vit.attend is before


def test_compiled_arms_are_for_cuda_alone(config):
    assert not any(arm.config.compile for arm in training_step.arms(config, CPU))
    on_cuda = training_step.arms(config, torch.device("cuda"))
    assert [arm.name for arm in on_cuda if arm.config.compile] == [
        "I-JEPA, ours, compiled",
        "Bootleg, per rectangle, compiled",
        "Bootleg, joint, compiled",
    ]


@pytest.mark.parametrize("which", [0, 2, 3])
def test_arithmetic_is_what_torch_counts(which, config, pack):
    """For I-JEPA, and for Bootleg by rectangle and joint; attention written out, so that every product is seen."""
    arm, batch = training_step.arms(config, CPU)[which], tiny_batch(config, pack)
    model = Bootleg(arm.config)
    with FlopCounterMode(display=False) as counter, mock.patch.object(vit, "attend", training_step.written_out):
        model(batch.images_BHWC, batch.visible_BV, batch.rectangles_BMT).total.backward()
    assert training_step.flops(arm.config, [batch]) == pytest.approx(counter.get_total_flops(), rel=1e-6)
