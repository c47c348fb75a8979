"""The plain step is a fair opponent: it computes what ours computes, to rounding."""

import pytest
import torch

from benchmarks.plain_ijepa import PlainIJepa, collate, ijepa_config, keep, repeat_blocks
from bootleg_training.engine.schedule import StepRates
from bootleg_training.engine.trainer import Trainer
from tests.training.tiny import CPU, loss_of, tiny_batch, tiny_config, tiny_model, tiny_pack

RATES = StepRates(lr=1e-3, weight_decay=0.05, momentum=0.9)


@pytest.fixture(scope="module")
def ijepa():
    return ijepa_config(tiny_config(optim={"clip": None}))


@pytest.fixture(scope="module")
def batch(ijepa):
    return tiny_batch(ijepa, tiny_pack())


def trained_gradients(model):
    return {name: p.grad for name, p in model.named_parameters() if p.grad is not None}


def test_loss_and_gradients_are_ours(ijepa, batch):
    ours, theirs = tiny_model(ijepa), tiny_model(ijepa)
    loss = loss_of(ours, batch).total
    plain = PlainIJepa(theirs, ijepa).loss(collate(batch))
    assert plain.item() == pytest.approx(loss.item(), abs=1e-5)
    loss.backward()
    plain.backward()
    expected, found = trained_gradients(ours), trained_gradients(theirs)
    found = {name: grad for name, grad in found.items() if grad.numel()}
    assert found.keys() == {name for name, grad in expected.items() if grad.numel()}
    for name, gradient in found.items():
        torch.testing.assert_close(gradient, expected[name], rtol=1e-3, atol=1e-6)


def test_three_steps_leave_student_predictor_and_teacher_where_ours_are(ijepa):
    ours, theirs = Trainer(ijepa, CPU), Trainer(ijepa, CPU)
    plain = PlainIJepa(theirs.model, ijepa)
    before = {name: p.detach().clone() for name, p in ours.model.named_parameters()}
    for step in range(3):
        drawn = tiny_batch(ijepa, tiny_pack(), step)
        assert plain.step(collate(drawn), RATES) == pytest.approx(ours.step(drawn, RATES).loss.total.item(), abs=1e-5)
    found = dict(theirs.model.named_parameters())
    for name, parameter in ours.model.named_parameters():
        moved = (parameter - before[name]).abs().max().item() if parameter.numel() else 0.0
        # AdamW divides by the gradient's size: where that is all rounding, a sign may differ, of a step of 1e-3.
        apart = (parameter - found[name]).abs().mean().item() if parameter.numel() else 0.0
        assert apart <= 0.02 * moved, name


def test_bf16_is_near_fp32(ijepa, batch):
    low = ijepa.model_copy(update={"precision": "bf16"})
    plain = PlainIJepa(tiny_model(low), low)
    with torch.autocast("cpu", torch.bfloat16):
        assert plain.loss(collate(batch)).item() == pytest.approx(
            loss_of(tiny_model(low), batch).total.item(), rel=0.02
        )


def test_other_objectives_are_refused(ijepa):
    config = tiny_config()
    with pytest.raises(AssertionError, match="I-JEPA's loss"):
        PlainIJepa(tiny_model(config), config)
    with_tokens = ijepa.model_copy(update={"encoder": config.encoder})
    with pytest.raises(AssertionError, match="global tokens"):
        PlainIJepa(tiny_model(with_tokens), with_tokens)


def test_masks_follow_one_another_along_the_batch():
    x = torch.arange(12.0).view(2, 3, 2)
    first, second = torch.tensor([[0, 2], [1, 1]]), torch.tensor([[1, 0], [2, 0]])
    kept = keep(x, [first, second])
    assert torch.equal(kept[:2], torch.stack([x[0, [0, 2]], x[1, [1, 1]]]))
    assert torch.equal(kept[2:], torch.stack([x[0, [1, 0]], x[1, [2, 0]]]))
    assert repeat_blocks(torch.arange(4), 2, 2).tolist() == [0, 1, 0, 1, 2, 3, 2, 3]
