"""One golden value for each rule in the docstring of ``bootleg_bundle.images``."""

import numpy as np
import pytest
from PIL import Image

from bootleg_bundle.errors import CorruptImageError, EmptyImageError, ImageFormatError, ImageLimitError
from bootleg_bundle.images import FORMATS, MEDIA_TYPES, ImageLimits, decode, sniff, stored_pixels, upright_size
from tests import images, realdata

UPRIGHT = {
    1: lambda stored: stored,
    2: lambda stored: stored[:, ::-1],
    3: lambda stored: stored[::-1, ::-1],
    4: lambda stored: stored[::-1],
    5: lambda stored: stored.swapaxes(0, 1),
    6: lambda stored: np.rot90(stored, -1),
    7: lambda stored: stored[::-1, ::-1].swapaxes(0, 1),
    8: lambda stored: np.rot90(stored, 1),
}


def row(data):
    """The single row of a decoded image, as lists."""
    (only,) = decode(data).tolist()
    return only


@pytest.mark.parametrize("orientation", UPRIGHT)
@pytest.mark.parametrize("write", [images.png, images.webp])
def test_the_orientation_tag_is_applied_exactly_once(write, orientation):
    stored = images.scene(5, 8)
    np.testing.assert_array_equal(decode(write(stored, orientation=orientation)), UPRIGHT[orientation](stored))


@pytest.mark.parametrize("orientation", UPRIGHT)
def test_the_orientation_tag_of_a_jpeg_is_applied_exactly_once(orientation):
    stored = decode(images.jpeg())
    np.testing.assert_array_equal(decode(images.jpeg(orientation=orientation)), UPRIGHT[orientation](stored))


@pytest.mark.parametrize("orientation", [0, 9, 65535])
@pytest.mark.parametrize("write", [images.jpeg, images.png, images.webp])
def test_an_orientation_outside_1_to_8_means_upright(write, orientation):
    np.testing.assert_array_equal(decode(write(orientation=orientation)), decode(write()))


@pytest.mark.parametrize("orientation", [None, *range(10)])
@pytest.mark.parametrize("write", [images.jpeg, images.png, images.webp])
def test_the_upright_size_is_that_of_the_decoded_image(write, orientation):
    data = write(images.scene(20, 30), orientation=orientation)
    assert upright_size(data) == decode(data).shape[:2]
    assert stored_pixels(data) == 600


@pytest.mark.parametrize("read", [upright_size, stored_pixels])
def test_a_size_is_not_read_from_a_damaged_header(read):
    with pytest.raises(CorruptImageError, match="header"):
        read(images.png()[:20])


def test_alpha_is_composited_over_white():
    pixels = np.array([[[255, 0, 0, 0], [255, 0, 0, 255], [0, 0, 0, 128]]], np.uint8)
    assert row(images.png(pixels)) == [[255, 255, 255], [255, 0, 0], [127, 127, 127]]
    assert row(images.webp(pixels)) == [[255, 255, 255], [255, 0, 0], [127, 127, 127]]


def test_grey_with_alpha_is_composited_over_white():
    data = images.raw_png(2, 1, 8, images.GREY_ALPHA, [bytes([0, 0, 40, 255])])
    assert row(data) == [[255, 255, 255], [40, 40, 40]]


@pytest.mark.parametrize(
    ("depth", "pixels", "key", "expected"),
    [
        (1, b"\x40", 1, [[0] * 3, [255] * 3]),
        (1, b"\x40", 0, [[255] * 3, [255] * 3]),
        (2, b"\x10", 1, [[0] * 3, [255] * 3]),
        (4, b"\x12", 1, [[255] * 3, [34] * 3]),
        (8, b"\x10\x20", 0x10, [[255] * 3, [32] * 3]),
        (16, images.words(0x1234, 0x5678), 0x1234, [[255] * 3, [0x56] * 3]),
    ],
)
def test_the_grey_of_a_colour_key_becomes_white(depth, pixels, key, expected):
    data = images.raw_png(2, 1, depth, images.GREY, [pixels], (b"tRNS", images.words(key)))
    assert row(data) == expected


@pytest.mark.parametrize(
    ("depth", "pixels", "key"),
    [
        (8, bytes([1, 2, 3, 4, 5, 6]), (1, 2, 3)),
        (16, images.words(0x0102, 0x0203, 0x0304, 0x0405, 0x0506, 0x0607), (0x0102, 0x0203, 0x0304)),
    ],
)
def test_the_colour_of_a_colour_key_becomes_white(depth, pixels, key):
    data = images.raw_png(2, 1, depth, images.RGB, [pixels], (b"tRNS", images.words(*key)))
    assert row(data) == [[255, 255, 255], [4, 5, 6]]


def test_a_palette_is_expanded_to_its_colours():
    assert row(images.palette_png([(1, 2, 3), (40, 50, 60)], [1, 0])) == [[40, 50, 60], [1, 2, 3]]


def test_a_palette_with_alpha_is_composited_over_white():
    data = images.palette_png([(1, 2, 3), (40, 50, 60)], [0, 1], alpha=[0, 255])
    assert row(data) == [[255, 255, 255], [40, 50, 60]]


def test_one_bit_is_black_and_white():
    assert row(images.raw_png(3, 1, 1, images.GREY, [b"\xa0"])) == [[255] * 3, [0] * 3, [255] * 3]


def test_grey_fills_all_three_channels():
    assert row(images.raw_png(2, 1, 8, images.GREY, [b"\x07\xfe"])) == [[7] * 3, [254] * 3]
    np.testing.assert_array_equal(np.ptp(decode(images.ACCEPTED["jpeg grey"]()), axis=2), 0)


def test_sixteen_bits_keep_the_high_byte():
    assert row(images.grey16_png(0, 0x00FF, 0x1234, 0xFEDC, 0xFFFF)) == [[v] * 3 for v in (0, 0, 0x12, 0xFE, 0xFF)]
    colour = images.raw_png(1, 1, 16, images.RGB, [images.words(0x1234, 0x00FF, 0xFEDC)])
    assert row(colour) == [[0x12, 0x00, 0xFE]]
    alpha = images.raw_png(2, 1, 16, images.GREY_ALPHA, [images.words(0x1234, 0xFFFF, 0x1234, 0)])
    assert row(alpha) == [[0x12] * 3, [255] * 3]


@pytest.mark.parametrize(
    ("ink", "colour"),
    [((0, 0, 0, 0), 255), ((0, 0, 0, 255), 0), ((0, 0, 0, 100), 155), ((255, 255, 255, 0), 0)],
)
def test_cmyk_is_converted_without_a_profile(ink, colour):
    pixels = decode(images.cmyk_jpeg(*ink))
    assert pixels.shape == (16, 16, 3)
    assert np.abs(pixels.astype(int) - colour).max() <= 2


def test_cmyk_inks_take_away_their_own_colour():
    red, green, blue = decode(images.cmyk_jpeg(200, 0, 0, 0)).reshape(-1, 3).mean(axis=0)
    assert red < 60
    assert green > 250
    assert blue > 250


@pytest.mark.parametrize("write", [images.jpeg, images.png, images.webp])
def test_a_colour_profile_is_ignored(write):
    np.testing.assert_array_equal(decode(write(icc_profile=b"no profile at all")), decode(write()))


@pytest.mark.parametrize("write", [images.apng, images.animated_webp])
def test_an_animation_is_refused(write):
    with pytest.raises(ImageLimitError, match="2 frames; the limit is 1"):
        decode(write())


@pytest.mark.parametrize("write", [images.apng, images.animated_webp])
def test_an_allowed_animation_gives_its_first_frame(write):
    np.testing.assert_array_equal(decode(write(), ImageLimits(max_frames=2)), images.scene())


def test_a_multi_picture_jpeg_gives_its_first_picture():
    np.testing.assert_array_equal(decode(images.mpo()), decode(images.jpeg()))


@pytest.mark.parametrize("name", images.ACCEPTED)
def test_every_accepted_kind_gives_contiguous_rgb_bytes(name):
    pixels = decode(images.ACCEPTED[name]())
    assert pixels.dtype == np.uint8
    assert pixels.ndim == 3
    assert pixels.shape[2] == 3
    assert pixels.flags.c_contiguous


def test_lossless_formats_return_what_was_written():
    np.testing.assert_array_equal(decode(images.png()), images.scene())
    np.testing.assert_array_equal(decode(images.webp()), images.scene())


def test_the_format_is_recognised_by_content():
    assert [sniff(write()) for write in (images.jpeg, images.png, images.webp)] == list(FORMATS)
    assert set(MEDIA_TYPES) == set(FORMATS)


def test_no_bytes_are_refused_as_empty():
    with pytest.raises(EmptyImageError, match="0 bytes"):
        decode(b"")


@pytest.mark.parametrize("kind", ["GIF", "BMP", "TIFF", "PPM", "ICO"])
def test_formats_outside_the_list_are_refused_with_the_list(kind):
    with pytest.raises(ImageFormatError, match="JPEG, PNG, WEBP"):
        decode(images.encode(Image.fromarray(images.scene()), kind))


def test_real_photographs_decode_upright_and_whole():
    for data in realdata.photographs(12):
        pixels = decode(data)
        assert min(pixels.shape[:2]) > 50
        assert pixels.std() > 5
