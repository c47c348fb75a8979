import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bootleg_training.data.order import permute, sample_indices

COUNTS = st.integers(1, 400)
SEEDS = st.integers(0, 2**32)


@given(images=COUNTS, seed=SEEDS, epoch=st.integers(0, 50))
def test_every_epoch_visits_every_image_exactly_once(images, seed, epoch):
    order = sample_indices(images, seed, epoch * images, images)
    assert sorted(order.tolist()) == list(range(images))


@given(images=COUNTS, seed=SEEDS, cuts=st.lists(st.integers(1, 97), min_size=1, max_size=8), start=st.integers(0, 1000))
def test_the_order_does_not_depend_on_where_batches_end(images, seed, cuts, start):
    total = sum(cuts)
    pieces, at = [], start
    for size in cuts:
        pieces.append(sample_indices(images, seed, at, size))
        at += size
    np.testing.assert_array_equal(np.concatenate(pieces), sample_indices(images, seed, start, total))


@given(images=st.integers(20, 400), seed=SEEDS)
def test_epochs_and_seeds_have_orders_of_their_own(images, seed):
    first, second = (sample_indices(images, seed, epoch * images, images).tolist() for epoch in (0, 1))
    assert first != second
    assert first != list(range(images))
    assert first != sample_indices(images, seed + 1, 0, images).tolist()


def test_the_order_is_the_same_on_every_machine():
    assert sample_indices(10, 0, 0, 10).tolist() == [2, 7, 6, 3, 9, 0, 8, 1, 5, 4]


@pytest.mark.parametrize("images", [1, 2, 3, 4, 5, 255, 256, 257, 4096, 50_000])
def test_sizes_around_powers_of_two_are_permuted(images):
    order = permute(np.arange(images), images, seed=3, epoch=1)
    assert np.array_equal(np.sort(order), np.arange(images))


def test_places_are_spread_evenly_over_the_images():
    # The mean place of each tenth of the images over many epochs is the middle, within chance.
    images, epochs = 100, 200
    orders = np.stack([permute(np.arange(images), images, seed=7, epoch=e) for e in range(epochs)])
    means = orders.mean(axis=0)
    assert np.abs(means - 49.5).max() < 5 * 28.9 / np.sqrt(epochs)
    neighbours = np.abs(np.diff(orders, axis=1)) == 1
    assert neighbours.mean() == pytest.approx(2 / images, abs=0.005)


@given(
    images=COUNTS,
    seed=SEEDS,
    world=st.integers(1, 8),
    share=st.integers(1, 5),
    step=st.integers(0, 40),
)
def test_the_ranks_batches_put_together_are_the_same_at_any_world_size(images, seed, world, share, step):
    batch = world * share
    whole = sample_indices(images, seed, step * batch, batch)
    ranks = [sample_indices(images, seed, step * batch + rank * share, share) for rank in range(world)]
    np.testing.assert_array_equal(np.concatenate(ranks), whole)
