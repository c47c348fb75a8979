import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from bootleg_training.data.statistics import histogram, mean_and_std

PICTURES = hnp.arrays(np.uint8, st.tuples(st.integers(1, 4), st.integers(1, 6), st.integers(1, 6), st.just(3)))


@given(PICTURES)
def test_statistics_are_numpys(pictures):
    mean, std = mean_and_std(sum(histogram(picture) for picture in pictures))
    expected = pictures.astype(np.float64) / 255
    assert mean == pytest.approx(expected.mean(axis=(0, 1, 2)).tolist(), abs=1e-14)
    assert std == pytest.approx(expected.std(axis=(0, 1, 2)).tolist(), abs=1e-12)


@given(PICTURES)
def test_a_histogram_counts_every_pixel_of_its_channel(pictures):
    picture = pictures[0]
    expected = [np.bincount(picture[:, :, channel].ravel(), minlength=256) for channel in range(3)]
    np.testing.assert_array_equal(histogram(picture), expected)


def test_a_constant_set_of_any_size_deviates_by_exactly_nothing():
    counts = np.zeros((3, 256), np.int64)
    counts[:, 77] = 3**33  # floats would lose the last digits of pixels * squares
    assert mean_and_std(counts) == ((77 / 255,) * 3, (0.0,) * 3)


def test_black_and_white_in_equal_parts():
    counts = np.zeros((3, 256), np.int64)
    counts[:, [0, 255]] = 5
    assert mean_and_std(counts) == ((0.5,) * 3, (0.5,) * 3)
