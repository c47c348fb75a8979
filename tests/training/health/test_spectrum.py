import pytest
import torch

from bootleg_training.health.spectrum import rank_me


def with_spectrum(singular, rows=60):
    """Features with the given singular values and random directions."""
    generator = torch.Generator().manual_seed(0)
    width = len(singular)
    u, _ = torch.linalg.qr(torch.randn(rows, width, generator=generator))
    v, _ = torch.linalg.qr(torch.randn(width, width, generator=generator))
    return u @ torch.diag(torch.tensor(singular)) @ v.T


def test_an_even_spectrum_has_full_rank():
    assert rank_me(with_spectrum([2.0] * 12)) == pytest.approx(12, rel=1e-3)


def test_features_on_one_line_have_rank_one():
    line = torch.outer(torch.arange(1, 40).float(), torch.randn(12, generator=torch.Generator().manual_seed(0)))
    assert rank_me(line) == pytest.approx(1, abs=0.01)


def test_k_equal_directions_have_rank_k():
    assert rank_me(with_spectrum([1.0] * 3 + [0.0] * 9)) == pytest.approx(3, abs=0.01)


def test_a_known_spectrum_has_the_exponential_of_its_entropy():
    expected = torch.distributions.Categorical(torch.tensor([0.5, 0.25, 0.25])).entropy().exp()
    assert rank_me(with_spectrum([4.0, 2.0, 2.0])) == pytest.approx(float(expected), rel=1e-3)


def test_the_scale_of_features_does_not_matter():
    features = with_spectrum([3.0, 2.0, 1.0])
    assert rank_me(features) == pytest.approx(rank_me(1000 * features), rel=1e-4)


def test_features_that_are_all_zero_are_finite():
    assert 0 <= rank_me(torch.zeros(10, 4)) <= 4
