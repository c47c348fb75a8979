import hashlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from pydantic import ValidationError

from bootleg_bundle.preprocess import PreprocessSpec, apply, centre_box
from tests import images

SPEC = PreprocessSpec(height=224, width=224)

CHANGES = {
    "height": 225,
    "width": 225,
    "crop_ratio": 0.875,
    "resample": "bilinear",
    "mean": (0.5, 0.456, 0.406),
    "std": (0.229, 0.224, 0.5),
}


def test_the_hash_of_a_specification_never_changes():
    # A pinned literal: were it to move, every embedding space id ever written would be orphaned.
    assert SPEC.hash == "a1510f0b768b1ab29fa345deffab8f6fdef488fd055b5b95cbe32208da64fae5"


def test_the_hash_is_that_of_sorted_compact_json():
    text = (
        '{"crop_ratio":1.0,"decoder_version":1,"height":224,"mean":[0.485,0.456,0.406],"resample":"bicubic",'
        '"std":[0.229,0.224,0.225],"version":1,"width":224}'
    )
    assert SPEC.hash == hashlib.sha256(text.encode()).hexdigest()


@pytest.mark.parametrize("field", CHANGES)
def test_the_hash_changes_with_each_field(field):
    assert SPEC.model_copy(update={field: CHANGES[field]}).hash != SPEC.hash


def test_every_field_enters_the_hash():
    assert set(PreprocessSpec.model_fields) == {*CHANGES, "version", "decoder_version"}


def test_the_hash_does_not_depend_on_how_a_number_was_written():
    same = PreprocessSpec.model_validate_json(SPEC.model_dump_json().replace("1.0", "1"))
    assert same.hash == SPEC.hash


@pytest.mark.parametrize("resample", ["bicubic", "bilinear"])
@pytest.mark.parametrize(
    ("source", "size", "crop_ratio", "box"),
    [
        ((60, 90), (32, 32), 1.0, (15, 0, 75, 60)),
        ((90, 60), (32, 32), 1.0, (0, 15, 60, 75)),
        ((64, 64), (32, 32), 0.875, (4, 4, 60, 60)),
        ((60, 60), (16, 32), 1.0, (0, 15, 60, 45)),
        ((61, 37), (24, 24), 1.0, (0, 12, 37, 49)),
        ((9, 8), (32, 32), 1.0, (0, 0.5, 8, 8.5)),
        ((37, 62), (24, 24), 1.0, (12.5, 0, 49.5, 37)),
    ],
)
def test_apply_is_one_resize_of_thecentre_box(source, size, crop_ratio, box, resample):
    rgb = images.scene(*source)
    spec = PreprocessSpec(height=size[0], width=size[1], crop_ratio=crop_ratio, resample=resample)
    method = {"bicubic": Image.Resampling.BICUBIC, "bilinear": Image.Resampling.BILINEAR}[resample]
    expected = np.asarray(Image.fromarray(rgb).resize((size[1], size[0]), method, box=box))
    np.testing.assert_array_equal(apply(spec, rgb), expected)


def test_an_image_of_the_right_size_passes_unchanged():
    rgb = images.scene(32, 32)
    np.testing.assert_array_equal(apply(PreprocessSpec(height=32, width=32), rgb), rgb)


def test_an_image_of_the_right_size_is_still_cropped_when_the_specification_says_so():
    rgb = images.scene(32, 32)
    assert (apply(PreprocessSpec(height=32, width=32, crop_ratio=0.5), rgb) != rgb).any()


@settings(max_examples=60)
@given(
    height=st.integers(1, 70),
    width=st.integers(1, 70),
    out=st.tuples(st.integers(8, 40), st.integers(8, 40)),
    crop_ratio=st.floats(0.05, 1),
)
def test_any_image_fits_any_specification(height, width, out, crop_ratio):
    spec = PreprocessSpec(height=out[0], width=out[1], crop_ratio=crop_ratio)
    pixels = apply(spec, np.full((height, width, 3), 77, np.uint8))
    assert pixels.shape == (*out, 3)
    assert pixels.dtype == np.uint8
    assert (pixels == 77).all()


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("height", 7),
        ("width", 4097),
        ("crop_ratio", 0.0),
        ("crop_ratio", 1.1),
        ("resample", "nearest"),
        ("std", (0.2, 0.0, 0.2)),
        ("mean", (0.5, 0.5)),
        ("version", 2),
        ("decoder_version", 2),
        ("gamma", 1.0),
    ],
)
def test_a_bad_field_is_refused_by_name(field, value):
    with pytest.raises(ValidationError, match=field):
        PreprocessSpec.model_validate({"height": 32, "width": 32, field: value})


@pytest.mark.parametrize("side", range(16, 600))
def test_the_box_never_leaves_the_image(side):
    """At 29, 58, 116, 123, 225, 232 and others, side / 224 * 224 is more than side."""
    for spec in (SPEC, PreprocessSpec(height=448, width=448)):
        for height, width in ((side, 700), (700, side)):
            left, top, right, bottom = centre_box(spec, height, width)
            assert 0 <= left < right <= width
            assert 0 <= top < bottom <= height


def test_an_image_whose_box_would_round_beyond_it_is_resized():
    assert apply(SPEC, images.scene(225, 300)).shape == (224, 224, 3)
