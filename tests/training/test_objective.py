"""The properties of docs/method.md, section 11, that belong to the objective; numbers in brackets are its items."""

import pytest
import torch

from bootleg_training.config import TargetConfig
from bootleg_training.engine.optimiser import build_optimiser, trained_parameters, update
from bootleg_training.engine.schedule import StepRates
from bootleg_training.objective import Bootleg, regression_loss, select_targets
from tests.training.tiny import loss_of, tiny_batch, tiny_config, tiny_model, tiny_pack


def paint(batch_images, indices, value):
    """The images with the given patches of each replaced by ``value``."""
    out = batch_images.clone()
    for image, chosen in zip(out, indices, strict=True):
        for index in chosen.tolist():
            row, column = divmod(index, 8)
            image[4 * row : 4 * row + 4, 4 * column : 4 * column + 4] = value
    return out


def hidden(visible):
    every = set(range(64))
    return [torch.tensor(sorted(every - set(row.tolist()))) for row in visible]


@pytest.mark.parametrize("layers", [(3,), (1, 2, 3)])
def test_shapes_of_the_loss(layers, pack):  # (1)
    config = tiny_config(target={"layers": layers})
    batch = tiny_batch(config, pack)
    loss = loss_of(tiny_model(config), batch)
    shape = (*batch.rectangles_BMT.shape, len(layers), 32)
    assert loss.predictions.shape == loss.targets.shape == shape
    assert loss.per_layer.shape == loss.explained().shape == loss.target_std().shape == (len(layers),)
    assert loss.total.ndim == 0
    torch.testing.assert_close(loss.total.detach(), loss.per_layer.mean())


def test_hidden_pixels_change_the_targets_and_leave_the_predictions_to_the_last_bit(config, pack):  # (2)
    model, batch = tiny_model(config), tiny_batch(config, pack)
    changed = paint(batch.images_BHWC, hidden(batch.visible_BV), 5.0)
    one = model(batch.images_BHWC, batch.visible_BV, batch.rectangles_BMT)
    two = model(changed, batch.visible_BV, batch.rectangles_BMT)
    assert torch.equal(one.predictions, two.predictions)
    assert not torch.equal(one.targets, two.targets)


def test_visible_pixels_change_the_predictions(config, pack):  # (3)
    model, batch = tiny_model(config), tiny_batch(config, pack)
    changed = paint(batch.images_BHWC, batch.visible_BV[:, :1], 5.0)
    one = model.predict(batch.images_BHWC, batch.visible_BV, batch.rectangles_BMT)
    two = model.predict(changed, batch.visible_BV, batch.rectangles_BMT)
    assert (one != two).flatten(1).any(dim=1).all()


def test_predictions_for_a_rectangle_do_not_depend_on_the_others(config, pack):  # (4)
    model, batch = tiny_model(config), tiny_batch(config, pack)
    moved = batch.rectangles_BMT.clone()
    moved[:, 1:] = batch.rectangles_BMT[:, :1].flip(2)
    one = model.predict(batch.images_BHWC, batch.visible_BV, batch.rectangles_BMT)
    two = model.predict(batch.images_BHWC, batch.visible_BV, moved)
    assert torch.equal(one[:, 0], two[:, 0])


def test_the_order_of_the_visible_patches_does_not_matter(config, pack):  # (5)
    model, batch = tiny_model(config), tiny_batch(config, pack)
    order = torch.randperm(batch.visible_BV.shape[1], generator=torch.Generator().manual_seed(0))
    one = model.predict(batch.images_BHWC, batch.visible_BV, batch.rectangles_BMT)
    two = model.predict(batch.images_BHWC, batch.visible_BV[:, order], batch.rectangles_BMT)
    torch.testing.assert_close(one, two, atol=1e-5, rtol=1e-4)


def test_the_teacher_starts_as_the_student_and_takes_no_gradient(config, pack):  # (6)
    model = Bootleg(config)
    for student, teacher in zip(model.student.parameters(), model.teacher.parameters(), strict=True):
        assert torch.equal(student, teacher)
        assert not teacher.requires_grad
        assert student.data_ptr() != teacher.data_ptr()
    loss_of(model, tiny_batch(config, pack)).total.backward()
    assert all(parameter.grad is None for parameter in model.teacher.parameters())


@pytest.mark.parametrize("momentum", [0.0, 0.9, 0.996, 1.0])
def test_the_teacher_moves_by_the_formula(config, momentum):  # (6)
    model = tiny_model(config)
    before = [p.clone() for p in model.teacher.parameters()]
    model.update_teacher(momentum, torch.ones(()))
    for old, student, teacher in zip(before, model.student.parameters(), model.teacher.parameters(), strict=True):
        expected = momentum * old.double() + (1 - momentum) * student.double()
        torch.testing.assert_close(teacher.double(), expected, atol=1e-7, rtol=1e-6)
        if momentum == 1.0:
            assert torch.equal(teacher, old)


def test_a_step_not_taken_leaves_the_teacher_to_the_last_bit(config):
    model = tiny_model(config)
    before = [p.clone() for p in model.teacher.parameters()]
    model.update_teacher(0.5, torch.zeros(()))
    assert all(torch.equal(a, b) for a, b in zip(before, model.teacher.parameters(), strict=True))


def test_targets_have_zero_mean_and_unit_variance_per_token_and_layer(config, pack):  # (8)
    targets = loss_of(tiny_model(config), tiny_batch(config, pack)).targets
    torch.testing.assert_close(targets.mean(dim=-1), torch.zeros(targets.shape[:-1]), atol=1e-5, rtol=0)
    torch.testing.assert_close(targets.var(dim=-1, correction=0), torch.ones(targets.shape[:-1]), atol=1e-2, rtol=0)


def test_each_layer_is_normalised_by_itself_and_stands_in_its_slot(config, pack):
    model, batch = tiny_model(config), tiny_batch(config, pack)
    raw = model.target_features(batch.images_BHWC)
    targets = select_targets(raw, batch.rectangles_BMT, config.target)
    for slot, stream in enumerate(raw):
        token = stream[1, batch.rectangles_BMT[1, 2, 3]]
        expected = (token - token.mean()) / (token.var(correction=0) + 1e-5).sqrt()
        torch.testing.assert_close(targets[1, 2, 3, slot], expected)


def test_instance_normalisation_is_per_channel_over_an_images_tokens():
    raw = [3 + 2 * torch.randn(2, 64, 8, generator=torch.Generator().manual_seed(0))]
    every = torch.arange(64).view(1, 1, 64).expand(2, -1, -1)
    targets = select_targets(raw, every, TargetConfig(normalise="instance"))
    torch.testing.assert_close(targets.mean(dim=2), torch.zeros(2, 1, 1, 8), atol=1e-5, rtol=0)
    torch.testing.assert_close(targets.var(dim=2, correction=0), torch.ones(2, 1, 1, 8), atol=1e-3, rtol=0)
    bare = select_targets(raw, every, TargetConfig(normalise="none"))
    assert torch.equal(bare[:, 0, :, 0], raw[0])


def test_the_gradient_reaches_everything_that_is_trained(config, pack):  # (8)
    model = tiny_model(config)
    loss_of(model, tiny_batch(config, pack)).total.backward()
    trained = trained_parameters(model)
    without = [name for name, p in trained.items() if p.grad is None or not p.grad.any()]
    assert without == []
    names = set(trained)
    assert {"student.patch_embed.weight", "student.global_tokens", "predictor.mask_token"} <= names
    assert {f"student.blocks.{i}.qkv.weight" for i in range(3)} <= names


def test_position_tables_are_not_trained(config):
    assert not any("positions" in name for name in trained_parameters(tiny_model(config)))


@pytest.mark.parametrize(("name", "expected"), [("mse", 1.0), ("l1", 0.80), ("smooth_l1", 0.42)])
def test_predicting_zero_costs_what_the_method_says(name, expected):
    targets = torch.randn(200_000, generator=torch.Generator().manual_seed(0))
    loss = regression_loss(torch.zeros_like(targets), targets, TargetConfig(loss=name)).mean()
    assert float(loss) == pytest.approx(expected, abs=0.01)


def test_the_explained_share_is_one_for_exact_and_zero_for_constant_predictions(config, pack):
    loss = loss_of(tiny_model(config), tiny_batch(config, pack))
    exact = type(loss)(loss.total, loss.per_layer, loss.targets, loss.targets)
    constant = loss.targets.mean(dim=(0, 1, 2), keepdim=True).expand_as(loss.targets)
    best = type(loss)(loss.total, loss.per_layer, constant, loss.targets)
    torch.testing.assert_close(exact.explained(), torch.ones(3))
    torch.testing.assert_close(best.explained(), torch.zeros(3), atol=1e-5, rtol=0)


def test_collapsed_targets_have_no_spread(config, pack):
    loss = loss_of(tiny_model(config), tiny_batch(config, pack))
    assert (loss.target_std() > 0.01).all()
    flat = loss.targets[:1, :1, :1].expand_as(loss.targets)
    torch.testing.assert_close(
        type(loss)(loss.total, loss.per_layer, flat, flat).target_std(), torch.zeros(3), atol=1e-5, rtol=0
    )


def test_overfitting_one_batch_under_a_frozen_teacher_drives_the_loss_far_below_one():  # (10)
    config = tiny_config(batch_size=2)
    model, batch = tiny_model(config), tiny_batch(config, tiny_pack(2))
    optimiser = build_optimiser(model, config.optim)
    losses = []
    for _ in range(150):
        loss = loss_of(model, batch)
        loss.total.backward()
        _, taken = update(optimiser, loss.total, StepRates(lr=5e-3, weight_decay=0.0, momentum=1.0), clip=3.0)
        model.update_teacher(1.0, taken)
        losses.append(loss.total.item())
    assert losses[0] > 0.9
    assert losses[-1] < 0.3


def test_two_seeds_differ_and_the_same_seed_repeats(config, pack):  # (12)
    def first_loss(seed):
        seeded = config.model_copy(update={"seed": seed})
        torch.manual_seed(seed)
        return loss_of(Bootleg(seeded), tiny_batch(seeded, pack)).total

    assert torch.equal(first_loss(0), first_loss(0))
    assert not torch.equal(first_loss(0), first_loss(1))


def test_views_of_an_image_share_its_targets_and_count_alike(pack):
    config = tiny_config(mask={"views": 2})
    model, batch = tiny_model(config), tiny_batch(config, pack)
    images = batch.images_BHWC
    assert len(batch.visible_BV) == len(batch.rectangles_BMT) == 2 * len(images)
    apart = [model(images, batch.visible_BV[view::2], batch.rectangles_BMT[view::2]).total for view in range(2)]
    torch.testing.assert_close(loss_of(model, batch).total, sum(apart) / 2)
    assert not torch.equal(batch.visible_BV[::2], batch.visible_BV[1::2])


@pytest.mark.parametrize("tap", ["block", "mid", "attention", "mlp"])
def test_the_place_of_the_tap_decides_the_targets(pack, tap):
    config = tiny_config(target={"tap": tap})
    model, batch = tiny_model(config), tiny_batch(config, pack)
    tapped = model.teacher(batch.images_BHWC, taps=config.target.layers, tap=tap).taps
    expected = select_targets(tapped, batch.rectangles_BMT, config.target)
    assert torch.equal(loss_of(model, batch).targets, expected)


def test_averaged_layers_are_one_target_normalised_before_and_after(pack):
    config = tiny_config(target={"source": "average"})
    model, batch = tiny_model(config), tiny_batch(config, pack)
    streams = model.teacher(batch.images_BHWC, taps=config.target.layers).taps
    mean = torch.stack([torch.nn.functional.layer_norm(z, (32,)) for z in streams]).mean(dim=0)
    expected = torch.nn.functional.layer_norm(mean, (32,))[1, batch.rectangles_BMT[1, 2]]
    targets = loss_of(model, batch).targets
    assert targets.shape[3] == 1
    torch.testing.assert_close(targets[1, 2, :, 0], expected, atol=1e-5, rtol=1e-4)


def test_pixels_as_targets_are_the_normalised_patches(pack):
    config = tiny_config(target={"source": "pixels"})
    model, batch = tiny_model(config), tiny_batch(config, pack)
    loss = loss_of(model, batch)
    assert loss.predictions.shape[3:] == loss.targets.shape[3:] == (1, 48)
    place = int(batch.rectangles_BMT[0, 1, 2])
    row, column = divmod(place, 8)
    patch = batch.images_BHWC[0, 4 * row : 4 * row + 4, 4 * column : 4 * column + 4].reshape(-1)
    expected = (patch - patch.mean()) / (patch.var(correction=0) + 1e-5).sqrt()
    torch.testing.assert_close(loss.targets[0, 1, 2, 0], expected)
