import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from bootleg_bundle.preprocess import PreprocessSpec
from bootleg_service.masks import placement
from bootleg_service.masks.placement import UNSEEN, label_map, place

SPEC = PreprocessSpec(height=32, width=32)


def noise(labels, height, width, seed=0):
    return np.random.default_rng(seed).normal(size=(labels, height, width)).astype(np.float32)


def interpolated(scores, size):
    """Bilinear enlargement with half-pixel centres, by Pillow."""
    return np.stack(
        [
            np.asarray(Image.fromarray(score).resize((size[1], size[0]), Image.Resampling.BILINEAR), np.float32)
            for score in scores
        ]
    )


def test_at_the_size_of_the_grid_each_cell_has_its_best_label():
    scores = noise(5, 4, 6)
    at = place(SPEC, (100, 100), "grid", (4, 6))
    np.testing.assert_array_equal(label_map(scores, at), scores.argmax(axis=0))


@pytest.mark.parametrize("labels", [2, 7, 40])
def test_scores_are_interpolated_before_they_are_compared(labels):
    scores = noise(labels, 4, 4)
    got = label_map(scores, place(SPEC, (100, 100), "input", (4, 4)))
    wanted = interpolated(scores, (32, 32))
    assert got.shape == (32, 32)
    np.testing.assert_allclose(np.take_along_axis(wanted, got[None].astype(int), 0)[0], wanted.max(axis=0), atol=1e-5)


@pytest.mark.parametrize(
    ("image", "window"),
    [
        ((48, 48), (slice(0, 48), slice(0, 48))),
        ((48, 96), (slice(0, 48), slice(24, 72))),
        ((96, 48), (slice(24, 72), slice(0, 48))),
    ],
)
def test_at_the_original_size_the_box_is_in_its_place_and_the_rest_is_unseen(image, window):
    scores = noise(3, 4, 4)
    labels = label_map(scores, place(SPEC, image, "original", (4, 4)))
    assert labels.shape == image
    outside = np.ones(image, bool)
    outside[window] = False
    np.testing.assert_array_equal(labels == UNSEEN, outside)
    square = label_map(scores, place(SPEC, (48, 48), "original", (4, 4)))
    np.testing.assert_array_equal(labels[window], square)


@given(st.integers(1, 90), st.integers(1, 90), st.sampled_from([1.0, 0.875, 0.3]))
def test_a_pixel_is_seen_when_its_centre_is_in_the_box(height, width, ratio):
    spec = PreprocessSpec(height=32, width=24, crop_ratio=ratio)
    at = place(spec, (height, width), "original", (2, 2))
    seen = label_map(noise(2, 2, 2), at) != UNSEEN
    left, top, right, bottom = at.box
    x, y = np.arange(width) + 0.5, np.arange(height) + 0.5
    rows, columns = (top <= y) & (y < bottom), (left <= x) & (x < right)
    if rows.any() and columns.any():
        np.testing.assert_array_equal(seen, rows[:, None] & columns)
    assert seen.any()


def test_large_masks_are_made_in_blocks_that_do_not_show(monkeypatch):
    scores = noise(6, 5, 5)
    at = place(SPEC, (61, 43), "original", (5, 5))
    whole = label_map(scores, at)
    monkeypatch.setattr(placement, "BLOCK", 100)
    np.testing.assert_array_equal(label_map(scores, at), whole)


@given(st.integers(0, 2**31), st.integers(1, 5), st.integers(1, 5), st.integers(1, 8))
def test_no_label_that_wins_somewhere_is_left_out_of_the_interpolation(seed, height, width, labels):
    scores = noise(labels, height, width, seed)
    rivals = placement._rivals(scores)
    best = interpolated(scores, (40, 40)).argmax(axis=0)
    assert set(np.unique(best)) <= set(rivals)


def test_labels_that_cannot_win_are_left_out():
    scores = noise(50, 4, 4)
    scores[3:] -= 100
    assert placement._rivals(scores) == [0, 1, 2]


def test_of_equal_scores_the_lowest_label_wins():
    assert not label_map(np.zeros((3, 2, 2), np.float32), place(SPEC, (9, 9), "input", (2, 2))).any()


def test_the_left_of_the_image_is_the_left_of_the_mask_and_its_top_the_top():
    scores = np.zeros((3, 4, 4), np.float32)
    scores[1, :, :2], scores[2, :2, 2:] = 1, 2
    labels = label_map(scores, place(SPEC, (64, 64), "original", (4, 4)))
    assert (labels[32, 5], labels[5, 60], labels[60, 60]) == (1, 2, 0)
