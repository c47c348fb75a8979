"""Masks and label maps drawn by hypothesis, from noise to nested rings."""

import numpy as np
from hypothesis import strategies as st


@st.composite
def masks(draw, *, side=12):
    """A bool mask ``[h, w]``."""
    height, width = draw(st.integers(1, side)), draw(st.integers(1, side))
    bits = draw(st.binary(min_size=height * width, max_size=height * width))
    threshold = draw(st.sampled_from([0, 64, 128, 192, 256]))
    return (np.frombuffer(bits, np.uint8) < threshold).reshape(height, width)


@st.composite
def label_maps(draw, *, side=12, labels=4):
    """A uint8 map ``[h, w]``, with ``UNSEEN`` (255) here and there."""
    height, width = draw(st.integers(1, side)), draw(st.integers(1, side))
    values = st.sampled_from([*range(labels), 255])
    row = st.lists(values, min_size=width, max_size=width)
    return np.array(draw(st.lists(row, min_size=height, max_size=height)), np.uint8)


def rings(count):
    """Squares inside squares: mask, hole, mask, hole ..."""
    mask = np.zeros((4 * count, 4 * count), bool)
    for i in range(2 * count):
        mask[i : 4 * count - i, i : 4 * count - i] = i % 2 == 0
    return mask
