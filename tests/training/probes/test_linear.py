import pytest
import torch

from bootleg_training.probes import linear
from bootleg_training.probes.linear import L2_GRID, linear_probe


def halves(count, *, flip=0.0, seed=0):
    """Two classes split by a plane that needs a bias; a share of the labels is wrong."""
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(count, 8, generator=generator)
    labels = (x @ torch.arange(8.0) > 5).long()
    wrong = torch.rand(count, generator=generator) < flip
    return x, torch.where(wrong, 1 - labels, labels)


def test_linearly_separable_features_are_separated():
    assert linear_probe(*halves(600), *halves(300, seed=1)).accuracy > 0.97


def test_features_that_only_a_curve_separates_stay_near_chance():
    def rings(seed):
        x = torch.randn(600, 2, generator=torch.Generator().manual_seed(seed))
        return x, (x.norm(dim=1) > 1.18).long()

    assert linear_probe(*rings(0), *rings(1)).accuracy < 0.65


def test_noise_in_the_labels_bounds_the_score():
    assert linear_probe(*halves(600, flip=0.2), *halves(600, flip=0.2, seed=1)).accuracy == pytest.approx(0.8, abs=0.06)


def test_the_scale_and_offset_of_features_do_not_matter():
    (x, y), (x_test, y_test) = halves(300), halves(300, seed=1)
    scale, offset = torch.logspace(-3, 3, 8), torch.arange(8.0) * 10
    plain, scaled = (
        linear_probe(a, y, b, y_test).accuracy for a, b in ((x, x_test), (x * scale + offset, x_test * scale + offset))
    )
    assert scaled == pytest.approx(plain, abs=0.01)


def test_a_constant_feature_does_no_harm():
    (x, y), (x_test, y_test) = halves(300), halves(300, seed=1)
    x[:, 0] = x_test[:, 0] = 3.0
    assert linear_probe(x, y, x_test, y_test).accuracy > 0.95


def test_the_regularisation_is_one_of_the_grid_and_the_result_repeats():
    (x, y), (x_test, y_test) = halves(300, flip=0.1), halves(300, seed=1)
    one, two = (linear_probe(x, y, x_test, y_test) for _ in range(2))
    assert one == two
    assert one.l2 in L2_GRID


def test_the_test_labels_do_not_choose_the_regularisation():
    (x, y), (x_test, y_test) = halves(300, flip=0.3), halves(300, seed=1)
    assert linear_probe(x, y, x_test, y_test).l2 == linear_probe(x, y, x_test, 1 - y_test).l2


def test_the_regularisation_is_chosen_on_a_tenth_that_was_not_fitted(monkeypatch):
    fitted, real = [], linear.fit_logistic
    monkeypatch.setattr(linear, "fit_logistic", lambda x, *rest, **how: fitted.append(len(x)) or real(x, *rest, **how))
    linear_probe(*halves(300), *halves(100, seed=1))
    assert fitted == [270] * len(L2_GRID) + [300]
