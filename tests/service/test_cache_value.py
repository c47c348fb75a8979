import struct
import zlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bootleg_service.cache_value import cache_key, pack, unpack

SPACE = "es1-" + "0" * 20 + "abcdef012345"
KEY = cache_key(SPACE, "a" * 64, "b" * 64, "embedding", b"image")
quick = settings(max_examples=200)
shapes = st.lists(st.integers(0, 5), max_size=4).map(tuple)


def array(dtype="<f4", shape=(3, 4)):
    return np.arange(np.prod(shape, dtype=int)).reshape(shape).astype(dtype)


def sealed(body):
    """A body with a checksum that is right, so that the checks behind it are reached."""
    return body + struct.pack("<I", zlib.crc32(body))


def test_the_key_is_application_schema_space_and_the_whole_digest():
    assert KEY.text == f"bootleg:1:abcdef012345:{KEY.digest.hex()}"
    assert len(KEY.digest) == 32


def test_every_part_that_decides_the_answer_changes_the_key():
    parts = {
        "space": (SPACE[:-1] + "6", "a" * 64, "b" * 64, "embedding", b"image"),
        "bundle": (SPACE, "c" * 64, "b" * 64, "embedding", b"image"),
        "preprocess": (SPACE, "a" * 64, "d" * 64, "embedding", b"image"),
        "output": (SPACE, "a" * 64, "b" * 64, "layers", b"image"),
        "image": (SPACE, "a" * 64, "b" * 64, "embedding", b"imagf"),
    }
    texts = {cache_key(*part).text for part in parts.values()}
    assert len(texts | {KEY.text}) == len(parts) + 1


def test_bytes_cannot_move_between_the_output_and_the_image():
    one = cache_key(SPACE, "a" * 64, "b" * 64, "layers", b"x|image")
    other = cache_key(SPACE, "a" * 64, "b" * 64, "layers|x", b"image")
    assert one.digest != other.digest


@quick
@given(shape=shapes, dtype=st.sampled_from(["<f4", "<f2", "u1"]), seed=st.integers(0, 2**32 - 1))
def test_a_value_is_read_back_exactly(shape, dtype, seed):
    value = np.random.default_rng(seed).standard_normal(shape).astype(dtype)
    read = unpack(KEY, pack(KEY, value))
    assert read is not None
    assert read.dtype == value.dtype
    np.testing.assert_array_equal(read, value)


def test_a_value_of_another_key_is_a_miss():
    other = cache_key(SPACE, "a" * 64, "b" * 64, "embedding", b"another image")
    assert unpack(KEY, pack(other, array())) is None


@pytest.mark.parametrize("cut", range(1, 60, 7))
def test_a_truncated_value_is_a_miss(cut):
    assert unpack(KEY, pack(KEY, array())[:-cut]) is None


@pytest.mark.parametrize("place", [0, 4, 6, 7, 11, 15, 46, 47, 60, -1])
def test_a_flipped_bit_is_a_miss(place):
    data = bytearray(pack(KEY, array()))
    data[place] ^= 1
    assert unpack(KEY, bytes(data)) is None


@quick
@given(st.binary(max_size=300))
def test_junk_is_a_miss(junk):
    assert unpack(KEY, junk) is None


@quick
@given(junk=st.binary(max_size=100), kept=st.integers(0, 95))
def test_junk_with_a_right_beginning_and_a_right_checksum_is_a_miss_or_our_own_value(junk, kept):
    genuine = pack(KEY, array())[:-4]
    body = genuine[:kept] + junk
    read = unpack(KEY, sealed(body))
    assert read is None or KEY.digest in body


@quick
@given(dimensions=st.integers(0, 255), claimed=st.lists(st.integers(0, 2**32 - 1), max_size=6))
def test_a_shape_that_the_payload_does_not_have_is_a_miss(dimensions, claimed):
    head = b"BLV1f4" + struct.pack("<B", dimensions) + struct.pack(f"<{len(claimed)}I", *claimed)
    assert unpack(KEY, sealed(head + KEY.digest + bytes(7))) is None


@pytest.mark.parametrize(("old", "new"), [(b"BLV1", b"BLV2"), (b"f4", b"f8"), (b"f4", b"O8")])
def test_another_schema_or_dtype_is_a_miss(old, new):
    assert unpack(KEY, sealed(pack(KEY, array())[:-4].replace(old, new, 1))) is None


def test_a_pickle_is_a_miss():
    assert unpack(KEY, array().dumps()) is None
