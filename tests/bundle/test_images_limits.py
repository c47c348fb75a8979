"""Limits of ``bootleg_bundle.images``: one file just below and one just above each, before any pixel is decoded."""

import pytest
from pydantic import ValidationError

from bootleg_bundle.errors import CorruptImageError, ImageLimitError
from bootleg_bundle.images import DEFAULT_LIMITS, ImageLimits, decode
from tests import images

WRITERS = [images.jpeg, images.png, images.webp]


@pytest.mark.parametrize("write", WRITERS)
def test_bytes_are_limited_inclusively(write):
    data = write()
    assert decode(data, ImageLimits(max_bytes=len(data))).shape == (24, 32, 3)
    with pytest.raises(ImageLimitError, match=f"{len(data):,} bytes; the limit is {len(data) - 1:,} bytes"):
        decode(data, ImageLimits(max_bytes=len(data) - 1))


@pytest.mark.parametrize("write", WRITERS)
def test_the_longest_side_is_limited_inclusively(write):
    assert decode(write(), ImageLimits(max_side=32)).shape == (24, 32, 3)
    with pytest.raises(ImageLimitError, match=r"32 x 24 pixels; the longest side allowed is 31"):
        decode(write(), ImageLimits(max_side=31))


@pytest.mark.parametrize("write", WRITERS)
def test_pixels_are_limited_inclusively(write):
    assert decode(write(), ImageLimits(max_pixels=768)).shape == (24, 32, 3)
    with pytest.raises(ImageLimitError, match=r"32 x 24 = 768 pixels; the limit is 767"):
        decode(write(), ImageLimits(max_pixels=767))


@pytest.mark.parametrize("write", [images.apng, images.animated_webp])
def test_frames_are_limited_inclusively(write):
    assert decode(write(3), ImageLimits(max_frames=3)).shape == (24, 32, 3)
    with pytest.raises(ImageLimitError, match=r"3 frames; the limit is 2"):
        decode(write(3), ImageLimits(max_frames=2))


def test_the_default_side_is_accepted_and_one_more_is_not():
    side = DEFAULT_LIMITS.max_side
    assert decode(images.raw_png(side, 1, 8, images.GREY, [bytes(side)])).shape == (1, side, 3)
    with pytest.raises(ImageLimitError, match=f"{side:,}"):
        decode(images.raw_png(side + 1, 1, 8, images.GREY, [bytes(side + 1)]))


@pytest.mark.parametrize(("width", "height"), [(10_000, 5_001), (60_000, 60_000), (2**31 - 1, 1), (2**31 - 1,) * 2])
def test_a_size_over_the_limit_is_refused_before_its_body_is_read(width, height):
    # The body is missing: a decoder that had begun would call the file corrupt.
    with pytest.raises(ImageLimitError, match=r"the limit|side allowed"):
        decode(images.headless_png(width, height))


def test_a_legal_size_without_a_body_is_corrupt():
    with pytest.raises(CorruptImageError, match="PNG"):
        decode(images.headless_png(300, 300))


def test_a_jpeg_with_a_huge_declared_size_is_refused():
    with pytest.raises(ImageLimitError, match=r"the limit|side allowed"):
        decode(images.resized_jpeg(65_500, 65_500))


@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
def test_the_limit_holds_where_the_library_only_warns():
    limits = ImageLimits(max_side=65_535)
    with pytest.raises(ImageLimitError, match=r"100,000,000 pixels; the limit is 50,000,000"):
        decode(images.headless_png(10_000, 10_000), limits)


def test_a_complete_bomb_is_refused_by_its_pixels():
    bomb = images.bomb_png(7_100)
    assert len(bomb) < 100_000
    with pytest.raises(ImageLimitError, match=r"50,410,000 pixels; the limit is 50,000,000"):
        decode(bomb)


@pytest.mark.parametrize("field", ["max_bytes", "max_side", "max_pixels", "max_frames"])
@pytest.mark.parametrize("value", [0, -1])
def test_a_limit_must_be_positive(field, value):
    with pytest.raises(ValidationError, match=field):
        ImageLimits.model_validate({field: value})


def test_a_jpeg_of_very_many_scans_is_refused_before_any_of_them_is_decoded():
    data = images.jpeg(progressive=True)
    start = data.rindex(b"\xff\xda")
    last_scan, end = data[start:-2], data[-2:]
    few = data[:start] + last_scan * 3 + end
    many = data[:start] + last_scan * 100 + end
    assert decode(few).shape == decode(data).shape
    with pytest.raises(ImageLimitError, match=r"scans; the limit is 64"):
        decode(many)
