import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bootleg_training.data.images import LazyImages

COUNT, SIDE = 7, 3
PIXELS = np.random.default_rng(0).integers(0, 256, (COUNT, SIDE, SIDE, 3), dtype=np.uint8)


class Lazy(LazyImages):
    def __init__(self):
        super().__init__(COUNT, SIDE)

    def take(self, index):
        assert index.dtype == np.int64
        assert index.ndim == 1
        assert not len(index) or (index.min() >= 0 and index.max() < COUNT)
        return PIXELS[index]


INDEX = st.integers(-COUNT, COUNT - 1)
BOUND = st.none() | st.integers(-2 * COUNT, 2 * COUNT)


@given(
    INDEX
    | st.lists(INDEX, max_size=9).map(lambda numbers: np.array(numbers, np.int64))
    | st.builds(slice, BOUND, BOUND, st.sampled_from([None, 1, 2, -1, -3]))
)
def test_indexing_is_numpys(index):
    np.testing.assert_array_equal(Lazy()[index], PIXELS[index])


@pytest.mark.parametrize("index", [COUNT, -COUNT - 1, np.array([0, COUNT]), np.array([-COUNT - 1])])
def test_an_index_outside_is_refused(index):
    with pytest.raises(IndexError, match="outside of 7 images"):
        Lazy()[index]


def test_shape_type_iteration_and_conversion_are_an_arrays():
    lazy = Lazy()
    assert (len(lazy), lazy.shape, lazy.dtype) == (COUNT, PIXELS.shape, np.uint8)
    np.testing.assert_array_equal(np.stack(list(lazy)), PIXELS)
    np.testing.assert_array_equal(np.asarray(lazy), PIXELS)
    assert np.asarray(lazy, np.float32).dtype == np.float32
    with pytest.raises(ValueError, match="copies"):
        np.array(lazy, copy=False)
