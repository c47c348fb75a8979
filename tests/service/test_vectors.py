import numpy as np
import pytest

from bootleg_service.errors import EngineError
from bootleg_service.vectors import quantise, shorten


def vectors(n=3, dim=8):
    return np.random.default_rng(0).standard_normal((n, dim)).astype(np.float32)


def test_vectors_are_left_as_they_are_unless_asked():
    np.testing.assert_array_equal(shorten(vectors(), None, normalize=False), vectors())
    np.testing.assert_array_equal(shorten(vectors(), 8, normalize=False), vectors())


def test_normalised_vectors_have_length_one_and_their_direction():
    unit = shorten(vectors(), None, normalize=True)
    np.testing.assert_allclose(np.linalg.norm(unit, axis=1), 1, rtol=1e-6)
    np.testing.assert_allclose(unit * np.linalg.norm(vectors(), axis=1, keepdims=True), vectors(), rtol=1e-5)


def test_shortened_vectors_are_their_first_numbers_normalised():
    short = shorten(vectors(), 3, normalize=False)
    head = vectors()[:, :3]
    np.testing.assert_allclose(short, head / np.linalg.norm(head, axis=1, keepdims=True), rtol=1e-6)
    assert short.flags.c_contiguous


def test_a_zero_vector_stays_zero_and_finite():
    assert not shorten(np.zeros((1, 8), np.float32), 4, normalize=True).any()


def cosines(a, b):
    a, b = a.astype(np.float64), b.astype(np.float64)
    return (a * b).sum(axis=1) / np.linalg.norm(a, axis=1) / np.linalg.norm(b, axis=1)


def test_int8_keeps_directions_whatever_the_lengths():
    long = vectors(50, 192) * np.logspace(-6, 6, 50, dtype=np.float32)[:, None]
    codes = quantise(long, "int8")
    assert codes.dtype == np.int8
    assert (np.abs(codes.astype(int)).max(axis=1) == 127).all()
    assert cosines(codes, long).min() > 0.9999


def test_uint8_is_int8_and_128_more():
    codes = quantise(vectors(), "uint8")
    assert codes.dtype == np.uint8
    np.testing.assert_array_equal(codes.astype(int) - 128, quantise(vectors(), "int8"))


def test_bits_are_the_signs_eight_to_a_byte_and_padded():
    one = np.array([[1, -1, 1, 0, 0.1, -3, 2, 2, 5, -1]], np.float32)
    np.testing.assert_array_equal(quantise(one, "ubinary"), [[0b10101011, 0b10000000]])
    np.testing.assert_array_equal(quantise(one, "binary"), [[0b10101011 - 128, 0b10000000 - 128]])
    assert (quantise(one, "ubinary").dtype, quantise(one, "binary").dtype) == (np.uint8, np.int8)


def test_float16_is_rounded_and_never_infinite():
    np.testing.assert_allclose(quantise(vectors(), "float16"), vectors(), rtol=1e-3)
    with pytest.raises(EngineError, match="float32"):
        quantise(np.full((1, 8), 1e6, np.float32), "float16")


@pytest.mark.parametrize("dtype", ["float32", "float16", "int8", "uint8", "binary", "ubinary"])
def test_no_vectors_and_zero_vectors_are_quantised_without_a_fault(dtype):
    assert quantise(vectors()[:0], dtype).shape[0] == 0
    assert len(quantise(np.zeros((2, 8), np.float32), dtype)) == 2
