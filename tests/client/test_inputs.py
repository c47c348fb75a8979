"""What may be handed over, and what is refused before anything is sent."""

import io

import numpy as np
import pytest
from PIL import Image

from bootleg_bundle.images import decode
from bootleg_client import Client, InputError, Retry
from bootleg_client.calls import FORM_BYTES, Limits, packed
from bootleg_client.images import encoded, listed, size_bound
from tests import images
from tests.service.pictures import truncated_jpeg

PLENTY = 10**9


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "I;16", "CMYK", "YCbCr", "PA"])
def test_a_pillow_image_of_any_usual_mode_decodes_to_its_colours(mode):
    picture = Image.fromarray(images.scene())
    picture = Image.new("I;16", (8, 8), 0x8000) if mode == "I;16" else picture.convert(mode)
    sent = encoded(picture, 0, PLENTY)
    expected = np.full((8, 8, 3), 0x80) if mode == "I;16" else np.asarray(picture.convert("RGBA").convert("RGB"))
    np.testing.assert_array_equal(decode(sent), expected)


def test_a_file_opened_by_pillow_is_sent_upright():
    data = images.jpeg(orientation=6)
    sent = decode(encoded(Image.open(io.BytesIO(data)), 0, PLENTY))
    np.testing.assert_array_equal(sent, decode(data))


@pytest.mark.parametrize("shape", [(5, 7), (5, 7, 3), (5, 7, 4)])
def test_pixels_arrive_unchanged(shape):
    pixels = np.random.default_rng(0).integers(0, 256, shape, np.uint8)
    if shape[-1] == 4:
        pixels[..., 3] = 255
    expected = np.repeat(pixels[..., None], 3, axis=2) if pixels.ndim == 2 else pixels[..., :3]
    np.testing.assert_array_equal(decode(encoded(pixels, 0, PLENTY)), expected)


def test_the_bound_on_pixels_holds_for_noise():
    noise = np.random.default_rng(0).integers(0, 256, (300, 400, 3), np.uint8)
    for image in (noise, Image.fromarray(noise)):
        assert len(encoded(image, 0, PLENTY)) <= size_bound(image)


@pytest.mark.parametrize(
    ("image", "words"),
    [
        (np.zeros((4, 4, 3), np.float32), "float32"),
        (np.zeros((4, 4, 2), np.uint8), "uint8 (4, 4, 2)"),
        (np.zeros((0, 4, 3), np.uint8), "(0, 4, 3)"),
        (Image.new("F", (4, 4)), "mode F"),
        ("https://example.org/a.jpg", "a URL"),
        ("data:image/png;base64,AAAA", "a URL"),
        ("/no/such/file.png", "cannot be read: No such file"),
        ("nul\0byte", "cannot be read"),
        (12, "int is no path"),
    ],
)
def test_what_is_no_image_is_refused_by_its_place(image, words):
    with pytest.raises(InputError) as caught:
        encoded(image, 3, PLENTY)
    assert caught.value.message.startswith("images[3]: ")
    assert words in caught.value.message


def test_a_pillow_image_that_cannot_be_decoded_is_refused():
    half = truncated_jpeg()
    with pytest.raises(InputError, match="cannot be decoded"):
        encoded(Image.open(io.BytesIO(half)), 0, PLENTY)


def test_one_or_many():
    assert listed("a.png") == ["a.png"]
    assert listed(b"bytes") == [b"bytes"]
    assert listed(iter(["a", "b"])) == ["a", "b"]
    assert len(listed(np.zeros((5, 4, 4, 3), np.uint8))) == 5
    assert len(listed(np.zeros((5, 4), np.uint8))) == 1


def test_groups_fill_a_request_by_number_and_by_bytes():
    assert packed([1] * 7, Limits(images=3)) == [range(3), range(3, 6), range(6, 7)]
    two = Limits(body_bytes=100 + 2 * FORM_BYTES)
    assert packed([60, 60, 40, 500, 1], two) == [range(1), range(1, 3), range(3, 4), range(4, 5)]
    assert packed([500], two) == [range(1)]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"url": "127.0.0.1:8000"}, "url"),
        ({"url": "ftp://host"}, "url"),
        ({"url": "http://user:secret@host"}, "without user"),
        ({"api_key": "two words"}, "api_key"),
        ({"priority": "urgent"}, "priority"),
        ({"api_key": "line\nbreak"}, "api_key"),
        ({"concurrency": 0}, "concurrency"),
        ({"deadline_seconds": 0}, "deadline_seconds"),
        ({"embedding_space": "a\nb"}, "embedding_space"),
    ],
)
def test_an_argument_that_cannot_be_is_refused_by_name_and_without_its_value(options, words):
    with pytest.raises(InputError) as caught:
        Client(**{"url": "http://host", **options})
    assert words in caught.value.message
    assert "secret" not in caught.value.message
    assert "two words" not in caught.value.message


def test_repetition_has_bounds():
    with pytest.raises(ValueError, match="attempts"):
        Retry(attempts=0)
