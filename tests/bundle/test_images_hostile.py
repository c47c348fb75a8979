"""Hostile bytes: ``decode`` returns a whole image or raises an ``ImageError``, never anything else."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import ImageFile

from bootleg_bundle.errors import BootlegError, CorruptImageError, ImageError
from bootleg_bundle.images import ImageLimits, decode
from tests import images

WHOLE = {
    "jpeg": images.jpeg(),
    "jpeg progressive": images.jpeg(progressive=True),
    "png": images.png(),
    "png palette": images.ACCEPTED["png palette"](),
    "webp": images.webp(),
    "webp lossy": images.webp(lossless=False, quality=80),
}
SMALL = ImageLimits(max_pixels=1_000_000)
MAGICS = [b"\xff\xd8\xff", images.PNG_MAGIC, b"RIFF\x40\0\0\0WEBPVP8 ", b"RIFF\x40\0\0\0WEBPVP8X", b""]


def whole_or_refused(data):
    try:
        pixels = decode(data, SMALL)
    except ImageError:
        return
    assert pixels.dtype == np.uint8
    assert pixels.shape[2] == 3


@pytest.mark.parametrize("name", WHOLE)
def test_a_truncated_file_is_refused_at_every_length(name):
    data, accepted = WHOLE[name], []
    for length in range(len(data)):
        try:
            decode(data[:length])
        except ImageError:
            continue
        accepted.append(length - len(data))
    assert accepted == [], "cut by this many bytes, yet accepted"


@pytest.mark.parametrize("write", [images.jpeg, images.png, images.webp])
def test_a_large_truncated_file_is_refused_at_every_hundredth(write):
    data = write(images.scene(300, 400))
    for percent in range(100):
        with pytest.raises(ImageError):
            decode(data[: len(data) * percent // 100])


@pytest.mark.parametrize("name", images.REFUSED)
def test_every_hostile_kind_is_refused_with_a_message(name):
    with pytest.raises(ImageError) as caught:
        decode(images.REFUSED[name]())
    assert caught.value.message
    assert caught.value.code in {"empty_image", "unsupported_image_format", "image_too_large", "corrupt_image"}


@settings(max_examples=300)
@given(magic=st.sampled_from(MAGICS), tail=st.binary(max_size=200))
def test_junk_behind_any_magic_raises_nothing_but_image_errors(magic, tail):
    whole_or_refused(magic + tail)


@settings(max_examples=300)
@given(
    name=st.sampled_from(sorted(WHOLE)),
    edits=st.lists(st.tuples(st.floats(0, 1, exclude_max=True), st.integers(0, 255)), min_size=1, max_size=8),
)
def test_changed_bytes_raise_nothing_but_image_errors(name, edits):
    data = bytearray(WHOLE[name])
    for place, value in edits:
        data[int(place * len(data))] = value
    whole_or_refused(bytes(data))


@settings(max_examples=150)
@given(
    first=st.sampled_from(sorted(WHOLE)),
    second=st.sampled_from(sorted(WHOLE)),
    cut=st.floats(0, 1),
    junk=st.binary(max_size=64),
)
def test_files_spliced_together_raise_nothing_but_image_errors(first, second, cut, junk):
    one, other = WHOLE[first], WHOLE[second]
    whole_or_refused(one[: int(cut * len(one))] + junk + other[int(cut * len(other)) :])


@pytest.mark.filterwarnings("ignore::UserWarning")  # Pillow warns of metadata that it cannot read
@pytest.mark.parametrize("broken", images.BROKEN_EXIF)
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP"])
def test_malformed_metadata_does_not_fail_a_decodable_image(kind, broken):
    clean = {"JPEG": images.jpeg, "PNG": images.png, "WEBP": images.webp}[kind]()
    data = images.with_exif_bytes(kind, images.BROKEN_EXIF[broken])
    np.testing.assert_array_equal(decode(data), decode(clean))


def test_a_tail_behind_the_image_changes_nothing():
    for write in (images.jpeg, images.png):
        np.testing.assert_array_equal(decode(write() + b"PK\3\4 trailing"), decode(write()))


def test_text_of_the_file_never_reaches_the_message():
    secret = b"4f2a-secret"
    comment = images.chunk(b"tEXt", b"Comment\0" + secret)
    data = images.png()
    data = data[:33] + comment + data[33 : len(data) // 2]
    with pytest.raises(CorruptImageError) as caught:
        decode(data)
    assert secret.decode() not in str(caught.value)


def test_a_library_that_allows_truncated_files_is_noticed(monkeypatch):
    monkeypatch.setattr(ImageFile, "LOAD_TRUNCATED_IMAGES", True)
    with pytest.raises(AssertionError, match="LOAD_TRUNCATED_IMAGES"):
        decode(images.png())


def test_image_errors_are_value_errors_of_the_project():
    assert issubclass(ImageError, ValueError)
    assert issubclass(ImageError, BootlegError)
