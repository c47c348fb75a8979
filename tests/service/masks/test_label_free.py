import numpy as np
import pytest

from bootleg_service.masks import kmeans, ncut, tokens
from bootleg_service.masks.tokens import pooled, spread

RNG = np.random.default_rng


def scene(height=8, width=8, *, parts=3, noise=0.1, seed=0):
    """Tokens ``[h, w, 16]`` of vertical bands, a large common direction, and the bands' labels."""
    rng = RNG(seed)
    kinds = rng.normal(size=(parts, 16))
    labels = np.tile(np.arange(width) * parts // width, (height, 1))
    made = 20 + kinds[labels] + noise * rng.normal(size=(height, width, 16))
    return made.astype(np.float16), labels


def blob(side=8, *, inside=slice(2, 6), seed=0):
    """Tokens with an object in the middle, and its mask."""
    rng = RNG(seed)
    back, front = rng.normal(size=(2, 16))
    mask = np.zeros((side, side), bool)
    mask[inside, inside] = True
    made = 20 + np.where(mask[..., None], front, back) + 0.1 * rng.normal(size=(side, side, 16))
    return made.astype(np.float16), mask


def same_parts(found, labels):
    """Whether two labellings agree up to names."""
    pairs = set(zip(found.ravel().tolist(), labels.ravel().tolist(), strict=True))
    return len(pairs) == len(np.unique(found)) == len(np.unique(labels))


def kmeans_labels(made, clusters):
    vectors = spread(made)
    centres = kmeans.cluster(vectors, vectors, clusters)
    return kmeans.closeness(vectors, centres).argmax(axis=0).reshape(made.shape[:2]), centres


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("parts", [2, 3, 5])
@pytest.mark.parametrize("given", [True, False])
def test_kmeans_finds_the_parts_of_a_made_up_scene(parts, given, seed):
    made, labels = scene(12, 12, parts=parts, seed=seed)
    assert same_parts(kmeans_labels(made, parts if given else None)[0], labels)


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("parts", [2, 3, 5])
def test_the_cut_finds_the_parts_of_a_made_up_scene(parts, seed):
    made, labels = scene(12, 12, parts=parts, seed=seed)
    assert same_parts(ncut.segments(made, parts).argmax(axis=0), labels)


@pytest.mark.parametrize("seed", range(5))
def test_the_cut_chooses_two_segments_where_there_are_two(seed):
    made, labels = scene(12, 12, parts=2, seed=seed)
    assert same_parts(ncut.segments(made, None).argmax(axis=0), labels)


@pytest.mark.parametrize("seed", range(10))
@pytest.mark.parametrize("inside", [slice(2, 6), slice(3, 4), slice(1, 7)])
def test_the_foreground_is_the_object_and_not_what_is_around_it(inside, seed):
    made, mask = blob(inside=inside, seed=seed)
    np.testing.assert_array_equal(ncut.foreground(made).argmax(axis=0), mask)


@pytest.mark.parametrize("turned", range(4))
@pytest.mark.parametrize("seed", range(5))
def test_where_the_corners_do_not_say_the_smaller_side_is_the_foreground(seed, turned):
    made, mask = blob(inside=slice(0, 8), seed=seed)
    mask[:, 3:] = False
    other, _ = blob(inside=slice(0, 0), seed=seed)
    made = np.rot90(np.where(mask[..., None], made, other), turned)
    np.testing.assert_array_equal(ncut.foreground(made).argmax(axis=0), np.rot90(mask, turned))


def test_clusters_are_in_order_of_size():
    made, _ = scene(10, 10, parts=4)
    for labels in (kmeans_labels(made, 4)[0], ncut.segments(made, 4).argmax(axis=0)):
        counts = np.bincount(labels.ravel())
        assert (np.diff(counts) <= 0).all()


@pytest.mark.parametrize("clusters", [None, 2, 7])
def test_an_image_of_one_colour_is_one_cluster_and_has_no_foreground(clusters):
    flat = np.full((8, 8, 16), 3.7, np.float16)
    labels, centres = kmeans_labels(flat, clusters)
    assert len(centres) == 1
    assert not labels.any()
    assert not ncut.foreground(flat).argmax(axis=0).any()
    assert not ncut.segments(flat, clusters).argmax(axis=0).any()


def test_no_more_clusters_come_back_than_there_are_tokens_that_differ():
    made, labels = scene(6, 6, parts=3, noise=0)
    found, centres = kmeans_labels(made, 9)
    assert len(centres) == 3
    assert same_parts(found, labels)


def test_the_same_tokens_always_give_the_same_segments():
    made = RNG(3).normal(size=(16, 16, 8)).astype(np.float16)
    for segment in (
        lambda: kmeans_labels(made, None)[0],
        lambda: ncut.segments(made, None),
        lambda: ncut.foreground(made),
    ):
        np.testing.assert_array_equal(segment(), segment())


@pytest.mark.parametrize(("height", "width"), [(1, 1), (1, 2), (2, 1), (1, 3)])
def test_grids_of_a_token_or_two_are_segmented_too(height, width):
    made = RNG(0).normal(size=(height, width, 8)).astype(np.float16)
    assert kmeans_labels(made, None)[0].shape == (height, width)
    assert ncut.segments(made, None).shape[1:] == (height, width)
    assert ncut.foreground(made).shape == (2, height, width)


@pytest.mark.parametrize(("height", "width"), [(32, 32), (33, 32), (64, 64), (100, 7), (1, 5000)])
def test_large_grids_are_averaged_to_a_bounded_number_of_tokens(height, width):
    made = RNG(0).normal(size=(height, width, 3)).astype(np.float16)
    small = pooled(made)
    assert small.shape[0] * small.shape[1] <= tokens.MAX_PAIRED
    side = max(-(-height // small.shape[0]), -(-width // small.shape[1]))
    last = [(length - 1) // side * side for length in (height, width)]
    for cell, square in ((small[0, 0], made[:side, :side]), (small[-1, -1], made[last[0] :, last[1] :])):
        np.testing.assert_allclose(cell, square.astype(np.float32).mean(axis=(0, 1)), rtol=1e-4, atol=1e-4)
    assert ncut.foreground(made).shape[1:] == small.shape[:2]


def test_tokens_are_compared_by_cosine_in_units_of_their_spread():
    made = RNG(0).normal(size=(3, 4, 8)).astype(np.float32) + 20
    unit = made.reshape(12, 8) / np.linalg.norm(made.reshape(12, 8), axis=1, keepdims=True)
    vectors = spread(made)
    distances = tokens.squared_distances(vectors, vectors)
    cosine_distances = 2 - 2 * unit.astype(np.float64) @ unit.T.astype(np.float64)
    np.testing.assert_allclose(distances / distances.mean(), cosine_distances / cosine_distances.mean(), atol=1e-3)
    assert abs(distances.mean() - 2) < 1e-3
