import pytest
import torch

from bootleg_training.engine.optimiser import build_optimiser, trained_parameters, update
from bootleg_training.engine.schedule import StepRates
from tests.training.tiny import loss_of, tiny_batch, tiny_model

RATES = StepRates(lr=1e-3, weight_decay=0.05, momentum=0.9)


def snapshot(model, optimiser):
    """Every number that a step may change."""
    weights = {name: p.detach().clone() for name, p in model.named_parameters()}
    moments = {
        f"{name}.{key}": value.clone()
        for name, p in trained_parameters(model).items()
        for key, value in optimiser.state.get(p, {}).items()
    }
    return weights, moments


def step(model, optimiser, batch, *, poison=None):
    loss = loss_of(model, batch).total
    if poison == "loss":
        loss = loss * float("nan")
    loss.backward()
    if poison == "gradient":
        model.predictor.mask_token.grad[3] = float("inf")
    norm, taken = update(optimiser, loss, RATES, clip=3.0)
    model.update_teacher(RATES.momentum, taken)
    return norm, taken


@pytest.mark.parametrize("poison", ["loss", "gradient"])
@pytest.mark.parametrize("good_steps", [0, 2])
def test_a_non_finite_step_leaves_everything_to_the_last_bit(config, pack, poison, good_steps):
    model = tiny_model(config)
    optimiser = build_optimiser(model, config.optim)
    for i in range(good_steps):
        assert step(model, optimiser, tiny_batch(config, pack, i))[1] == 1
    weights, moments = snapshot(model, optimiser)
    _, taken = step(model, optimiser, tiny_batch(config, pack, 5), poison=poison)
    assert taken == 0
    weights_after, moments_after = snapshot(model, optimiser)
    for name, value in weights.items():
        assert torch.equal(value, weights_after[name]), name
    for name, value in moments_after.items():
        assert torch.equal(value, moments.get(name, torch.zeros_like(value))), name
    assert all(p.grad is None for p in model.parameters())


def test_the_step_behind_a_skipped_one_is_as_if_nothing_had_happened(config, pack):
    def run(poisoned):
        model = tiny_model(config)
        optimiser = build_optimiser(model, config.optim)
        step(model, optimiser, tiny_batch(config, pack, 0))
        if poisoned:
            step(model, optimiser, tiny_batch(config, pack, 1), poison="loss")
        step(model, optimiser, tiny_batch(config, pack, 2))
        return snapshot(model, optimiser)

    for straight, skipped in zip(run(poisoned=False), run(poisoned=True), strict=True):
        for name, value in straight.items():
            assert torch.equal(value, skipped[name]), name


def test_a_good_step_changes_every_weight_and_the_teacher(config, pack):
    model = tiny_model(config)
    optimiser = build_optimiser(model, config.optim)
    before, _ = snapshot(model, optimiser)
    norm, taken = step(model, optimiser, tiny_batch(config, pack))
    after, _ = snapshot(model, optimiser)
    assert taken == 1
    assert norm > 0
    assert [name for name in before if torch.equal(before[name], after[name])] == []


def test_biases_norms_and_tokens_are_not_decayed(config):
    model = tiny_model(config)
    decayed, exempt = build_optimiser(model, config.optim).param_groups
    names = {id(p): name for name, p in trained_parameters(model).items()}
    assert all(names[id(p)].endswith("weight") and p.ndim == 2 for p in decayed["params"])
    exempt_names = {names[id(p)] for p in exempt["params"]}
    assert {
        "student.global_tokens",
        "predictor.mask_token",
        "student.norm.weight",
        "predictor.head.bias",
    } <= exempt_names
    assert exempt["weight_decay"] == 0
    assert len(decayed["params"]) + len(exempt["params"]) == len(names)


def test_only_the_decayed_group_follows_the_schedule(config, pack):
    model = tiny_model(config)
    optimiser = build_optimiser(model, config.optim)
    step(model, optimiser, tiny_batch(config, pack))
    assert [group["lr"] for group in optimiser.param_groups] == [1e-3, 1e-3]
    assert [group["weight_decay"] for group in optimiser.param_groups] == [0.05, 0.0]


def test_the_gradient_is_clipped_to_the_norm_and_the_norm_before_is_returned(config):
    model = tiny_model(config)
    optimiser = build_optimiser(model, config.optim)
    parameters = list(trained_parameters(model).values())
    loss = 100 * sum(p.sum() for p in parameters)
    loss.backward()
    seen = []
    optimiser.register_step_pre_hook(
        lambda *_: seen.append(torch.linalg.vector_norm(torch.cat([p.grad.flatten() for p in parameters])))
    )
    norm, _ = update(optimiser, loss, RATES, clip=3.0)
    count = sum(p.numel() for p in parameters)
    assert float(norm) == pytest.approx(100 * count**0.5, rel=1e-4)
    assert float(seen[0]) == pytest.approx(3.0, rel=1e-4)


def test_the_teacher_is_not_trained(config):
    model = tiny_model(config)
    named = trained_parameters(model)
    teacher = {id(p) for p in model.teacher.parameters()}
    assert not teacher & {id(p) for p in named.values()}
    assert len(named) == len(list(model.student.parameters())) + len(list(model.predictor.parameters()))
