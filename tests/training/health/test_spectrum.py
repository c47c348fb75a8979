import math

import pytest
import torch

from bootleg_training.health.spectrum import alpha_req, mean_cosine, mean_std, rank_me, slope_range


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


def test_features_that_are_not_finite_have_no_rank():
    assert math.isnan(rank_me(torch.tensor([[1.0, math.inf], [0.0, 1.0]])))


def power_law(alpha, width=64, rows=400):
    """Centred features whose covariance has the eigenvalues ``i ** -alpha``, exactly."""
    generator = torch.Generator().manual_seed(0)
    noise = torch.randn(rows, width, generator=generator, dtype=torch.float64)
    u, _ = torch.linalg.qr(noise - noise.mean(dim=0))
    v, _ = torch.linalg.qr(torch.randn(width, width, generator=generator, dtype=torch.float64))
    scale = torch.arange(1, width + 1, dtype=torch.float64) ** (-alpha / 2)
    return u @ torch.diag(scale) @ v.T


@pytest.mark.parametrize("alpha", [0.0, 0.5, 1.0, 2.5])
def test_a_power_law_gives_its_slope(alpha):
    assert alpha_req(power_law(alpha)) == pytest.approx(alpha, abs=1e-6)
    assert alpha_req(3 * power_law(alpha).float() + 0.5) == pytest.approx(alpha, abs=1e-3)


def test_only_the_stated_range_is_fitted():
    first, last = slope_range(400, 64)
    assert (first, last) == (8, 32)
    scale = torch.arange(1, 65, dtype=torch.float64) ** -0.5
    bent = scale.clone()
    bent[: first - 1] = 5.0
    bent[last:] *= 1e-3
    plain, changed = (mixed(s) for s in (scale, bent))
    assert alpha_req(changed) == pytest.approx(alpha_req(plain), abs=1e-6)


def mixed(scale):
    u, _, vt = torch.linalg.svd(power_law(1.0), full_matrices=False)
    return u @ torch.diag(scale) @ vt


@pytest.mark.parametrize(
    ("n", "width", "expected"), [(512, 128, (11, 64)), (512, 768, (11, 255)), (40, 32, (4, 16)), (4, 32, (1, 2))]
)
def test_the_range_fits_narrow_features_and_few_of_them(n, width, expected):
    assert slope_range(n, width) == expected


@pytest.mark.parametrize(
    "features",
    [
        torch.ones(20, 8),
        torch.zeros(20, 8),
        torch.full((20, 8), 0.1).cumsum(1),
        torch.randn(3, 8),
        torch.ones(20, 8) * math.nan,
    ],
)
def test_no_spectrum_has_no_slope(features):
    assert math.isnan(alpha_req(features))


def test_cosine_of_known_pairs():
    assert mean_cosine(torch.ones(5, 3)) == pytest.approx(1)
    assert mean_cosine(torch.eye(4)) == pytest.approx(0)
    assert mean_cosine(torch.tensor([[2.0, 0], [-1.0, 0]])) == pytest.approx(-1)
    assert mean_cosine(torch.tensor([[1.0, 0], [1.0, 1.0], [0, 3.0]])) == pytest.approx(2**0.5 / 3)


def test_std_is_over_features_and_averaged_over_channels():
    assert mean_std(torch.tensor([[0.0, 5.0], [2.0, 5.0]])) == pytest.approx(0.5)
    assert mean_std(torch.ones(7, 3)) == 0
