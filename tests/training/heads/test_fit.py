import dataclasses

import numpy as np
import pytest
import torch

from bootleg_bundle.errors import DivergedError
from bootleg_training.heads.classes import numbered_classes
from bootleg_training.heads.config import HeadConfig
from bootleg_training.heads.fit import FitSettings, Lesson, class_weights, fit_head
from bootleg_training.heads.score import count_pixels
from bootleg_training.probes.confusion import mean_iou
from tests.training.tiny import CPU

WIDTH, LAYERS, GRID, SIDE = 8, 2, 4, 16
QUICK = FitSettings(iterations=80, batch=8, rate=2e-2)


def config(kind):
    return HeadConfig(
        kind=kind, size=32, channels=16, upscale=1 if kind == "linear" else 2, classes=numbered_classes(3)
    )


def lesson(kind, count=16, seed=0):
    """Each patch's label is coded in its features, under noise, an offset and odd scales."""
    rng = np.random.default_rng(seed)
    small = rng.integers(0, 3, (count, GRID, GRID))
    width = WIDTH if kind == "linear" else WIDTH * LAYERS
    code = np.random.default_rng(9).standard_normal((3, width))
    features = code[small] + 0.05 * rng.standard_normal((count, GRID, GRID, width))
    scale = SIDE // GRID
    labels = small.repeat(scale, axis=1).repeat(scale, axis=2).astype(np.uint8)
    return Lesson((features * np.logspace(-2, 1, width) + 5).astype(np.float32), labels, 255)


def fit(kind, taught, settings=QUICK):
    return fit_head(config(kind), (WIDTH, LAYERS), taught, settings, CPU, title="fit")


def score(head, taught):
    return mean_iou(count_pixels(head, taught.features, list(taught.labels), classes=3, ignore=taught.ignore))


@pytest.mark.parametrize(("kind", "least"), [("linear", 0.7), ("layers", 0.85)])
def test_a_head_learns_what_is_there_and_finds_it_in_other_images(kind, least):
    head = fit(kind, lesson(kind))
    assert score(head, lesson(kind, seed=1)) > least  # the rest is what interpolation blurs between patches


@pytest.mark.parametrize("kind", ["linear", "layers"])
def test_features_that_say_nothing_find_nothing(kind):
    blind = [
        dataclasses.replace(taught, features=np.random.default_rng(3 + seed).standard_normal(taught.features.shape))
        for seed, taught in enumerate((lesson(kind), lesson(kind, seed=1)))
    ]
    assert score(fit(kind, blind[0]), blind[1]) < 0.4


@pytest.mark.parametrize("kind", ["linear", "layers"])
def test_training_repeats_bit_by_bit_and_another_seed_gives_another_head(kind):
    short = dataclasses.replace(QUICK, iterations=10)
    one, two, other = (
        fit(kind, lesson(kind), dataclasses.replace(short, seed=seed)).state_dict() for seed in (0, 0, 1)
    )
    assert all(torch.equal(one[name], two[name]) for name in one)
    assert not all(torch.equal(one[name], other[name]) for name in one)


def test_training_leaves_the_callers_random_state_alone():
    torch.manual_seed(5)
    before = torch.get_rng_state()
    fit("layers", lesson("layers"), dataclasses.replace(QUICK, iterations=2))
    assert torch.equal(torch.get_rng_state(), before)


def test_ignored_pixels_have_no_say_in_training_or_score():
    taught = lesson("linear")
    labels = taught.labels.copy()
    labels[:, :, SIDE // 2 :] = 255
    hidden = dataclasses.replace(taught, labels=labels)
    features = taught.features.copy()
    features[:, :, GRID // 2 + 1 :] = 1e3 * np.random.default_rng(1).standard_normal(features[:, :, 3:].shape)
    spoiled = dataclasses.replace(hidden, features=features)
    matrix = count_pixels(fit("linear", hidden), features, list(labels), classes=3, ignore=255)
    assert matrix.sum() == (labels != 255).sum()
    assert np.isfinite(score(fit("linear", spoiled), spoiled))


def test_a_batch_without_a_label_teaches_nothing_and_breaks_nothing():
    taught = lesson("linear", 4)
    empty = dataclasses.replace(taught, labels=np.full_like(taught.labels, 255))
    head = fit("linear", empty, dataclasses.replace(QUICK, iterations=3))
    assert all(torch.isfinite(weight).all() for weight in head.parameters())
    assert float(head.project.weight.detach().abs().max()) == 0


def test_weights_of_classes_by_hand():
    labels = np.array([[[0] * 8 + [1] * 4 + [2] + [9] * 3]], np.uint8)
    taught = Lesson(np.zeros((1, 1, 1, 1), np.float32), labels, 9)
    np.testing.assert_allclose(class_weights(taught, 4, 1.0), [0.5, 1, 4, 1])  # the fourth does not occur
    np.testing.assert_allclose(class_weights(taught, 4, 0.5), [0.5**0.5, 1, 2, 1])
    np.testing.assert_allclose(class_weights(taught, 4, 0.0), [1, 1, 1, 1])
    inside = dataclasses.replace(taught, ignore=0)
    np.testing.assert_allclose(class_weights(inside, 3, 1.0), [1, 2.5 / 4, 2.5])


def test_balance_finds_more_of_a_rare_class():
    rng = np.random.default_rng(0)
    rare = rng.random((32, GRID, GRID)) < 0.06
    features = (rare[..., None] + 0.7 * rng.standard_normal((32, GRID, GRID, WIDTH))).astype(np.float32)
    labels = rare.repeat(4, axis=1).repeat(4, axis=2).astype(np.uint8)
    found = []
    for balance in (0.0, 1.0):
        head = fit("linear", Lesson(features, labels, None), dataclasses.replace(QUICK, balance=balance))
        matrix = count_pixels(head, features, list(labels), classes=3, ignore=None)
        found.append(matrix[1, 1] / matrix[1].sum())
    assert found[1] > found[0] + 0.1


def test_pixels_are_counted_at_the_masks_own_resolution():
    taught = lesson("linear", 2)
    masks = [np.zeros((50, 70), np.uint8), np.full((5, 5), 255, np.uint8)]
    matrix = count_pixels(fit("linear", taught), taught.features, masks, classes=3, ignore=255)
    assert matrix[0].sum() == 50 * 70
    assert matrix.sum() == 50 * 70


def test_a_loss_that_is_not_finite_stops_with_a_word():
    taught = lesson("linear")
    features = np.full_like(taught.features, np.nan)
    with pytest.raises(DivergedError, match="nan after"):
        fit("linear", dataclasses.replace(taught, features=features))
