import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from bootleg_service.cache_value import cache_key, pack, unpack
from bootleg_service.masks import piece
from bootleg_service.masks.piece import Piece

KEY = cache_key("es1-" + "0" * 32, "a" * 64, "b" * 64, "mask-1:x", b"image")


@given(st.dictionaries(st.text(max_size=5), st.integers(0, 9), max_size=3), st.binary(max_size=50))
def test_a_mask_comes_back_from_the_cache_as_it_was(about, payload):
    packed = Piece(about, payload).pack()
    assert packed.dtype == np.uint8
    stored = unpack(KEY, pack(KEY, packed))
    assert stored is not None
    assert piece.unpack(stored) == Piece(about, payload)
