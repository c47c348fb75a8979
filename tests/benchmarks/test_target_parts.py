"""A target made of known parts is cut into them."""

import pytest
import torch

from benchmarks.target_parts import parts

N, D, P, IMAGES = 9, 8, 4, 400


@pytest.mark.parametrize("shares", [(0.5, 0.2, 0.2, 0.1), (0, 0, 0.7, 0.3), (0, 1, 0, 0), (0.25, 0.25, 0.25, 0.25)])
def test_known_parts_are_found(shares):
    generator = torch.Generator().manual_seed(0)
    draw = lambda *shape: torch.randn(*shape, generator=generator, dtype=torch.float64)  # noqa: E731
    pixels = draw(IMAGES, N, P)
    place = draw(N, D)
    terms = [draw(D).expand(IMAGES, N, D), (place - place.mean(0)).expand(IMAGES, N, D), pixels @ draw(P, D)]
    terms.append(draw(IMAGES, N, D))
    y = sum((share / term.square().mean()) ** 0.5 * term for share, term in zip(shares, terms, strict=True))
    found = parts(y, pixels)
    assert (found.constant, found.position, found.pixels, found.rest) == pytest.approx(shares, abs=0.03)
