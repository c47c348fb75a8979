import pytest
import torch

from bootleg_training.probes import logistic
from bootleg_training.probes.logistic import fit_logistic, predict, standardise


def noisy(count=200, classes=3, seed=0):
    generator = torch.Generator().manual_seed(seed)
    y = torch.randint(classes, (count,), generator=generator)
    return torch.eye(classes)[y] + 0.7 * torch.randn(count, classes, generator=generator), y


def test_the_gradient_vanishes_at_the_solution_and_the_bias_is_free():
    x, y = noisy()
    weights = fit_logistic(x, y, 3, 0.1, iterations=200)
    residual = (x @ weights[:-1] + weights[-1]).softmax(dim=1) - torch.eye(3)[y]
    torch.testing.assert_close(x.T @ residual / len(x), -0.1 * weights[:-1], atol=1e-4, rtol=0)
    torch.testing.assert_close(residual.mean(dim=0), torch.zeros(3), atol=1e-4, rtol=0)


def test_the_start_moves_the_way_and_not_the_end():
    x, y = noisy()
    cold = fit_logistic(x, y, 3, 0.1, iterations=500)
    warm = fit_logistic(x, y, 3, 0.1, iterations=500, start=fit_logistic(x, y, 3, 1.0, iterations=500))
    torch.testing.assert_close(cold, warm, atol=1e-3, rtol=0)


def test_the_start_is_not_written_to():
    x, y = noisy()
    start = torch.zeros(4, 3)
    fit_logistic(x, y, 3, 0.1, iterations=5, start=start)
    assert start.equal(torch.zeros(4, 3))


def test_predictions_do_not_depend_on_the_chunk(monkeypatch):
    x, y = noisy()
    weights = fit_logistic(x, y, 3, 0.1, iterations=50)
    whole = predict(weights, x)
    assert float((whole == y).float().mean()) == pytest.approx(0.75, abs=0.15)
    monkeypatch.setattr(logistic, "CHUNK", 7)
    assert predict(weights, x).equal(whole)


def test_standardised_features_have_mean_zero_and_deviation_one():
    x = noisy()[0] * 5 + 3
    mean, std = standardise(x)
    z = (x - mean) / std
    torch.testing.assert_close(z.mean(dim=0), torch.zeros(3), atol=1e-5, rtol=0)
    torch.testing.assert_close(z.std(dim=0), torch.ones(3))
