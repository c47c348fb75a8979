import dataclasses

import numpy as np
import pytest
from PIL import Image

from bootleg_bundle.errors import DataError
from bootleg_bundle.preprocess import PreprocessSpec, apply
from bootleg_training.heads.labelled import read_exam, read_pictures
from tests.training.probes import scenery

SPEC = PreprocessSpec(height=16, width=16)


def write_wide(folder, ratio=2):
    """One picture of 40 x 80, its left half label 0, its right half label 1."""
    labels = np.zeros((40, 40 * ratio), np.uint8)
    labels[:, 20 * ratio :] = 1
    made = dataclasses.replace(scenery.scenes(1), images=scenery.COLOURS[labels][None], masks=labels[None])
    return scenery.write(folder, made)


def test_an_exam_shows_what_the_service_would_and_keeps_that_part_of_the_mask_at_its_own_resolution(tmp_path):
    found = read_exam(write_wide(tmp_path / "set"), SPEC, ignore=255, classes=2)
    picture = np.asarray(Image.open(tmp_path / "set" / "images" / "000.png"))
    np.testing.assert_array_equal(found.images[0], apply(SPEC, picture))
    assert found.masks[0].shape == (40, 40)
    assert (found.masks[0][:, :20] == 0).all()
    assert (found.masks[0][:, 20:] == 1).all()


def test_the_crop_ratio_is_that_of_the_service(tmp_path):
    spec = SPEC.model_copy(update={"crop_ratio": 0.5})
    assert read_exam(write_wide(tmp_path / "set"), spec, ignore=255, classes=2).masks[0].shape == (20, 20)


def test_pictures_to_learn_from_are_reduced_whole_and_never_enlarged(tmp_path):
    folder = write_wide(tmp_path / "set")
    small = read_pictures(folder, 8, ignore=255, classes=2)
    assert small.images[0].shape == (16, 32, 3)
    assert small.masks[0].shape == (16, 32)
    assert set(np.unique(small.masks[0])) == {0, 1}
    assert read_pictures(folder, 64, ignore=255, classes=2).images[0].shape == (40, 80, 3)


def test_classes_are_the_labels_that_occur_unless_told(tmp_path):
    folder = write_wide(tmp_path / "set")
    assert read_pictures(folder, 8, ignore=255, classes=None).classes == 2
    assert read_pictures(folder, 8, ignore=1, classes=None).classes == 1
    assert read_pictures(folder, 8, ignore=255, classes=7).classes == 7


def test_a_label_that_is_no_class_is_refused_by_its_mask(tmp_path):
    folder = write_wide(tmp_path / "set")
    with pytest.raises(DataError, match=r"000\.png holds label 1; there are 1 classes"):
        read_exam(folder, SPEC, ignore=255, classes=1)


def test_the_fingerprint_is_that_of_the_content(tmp_path):
    one = read_pictures(write_wide(tmp_path / "one"), 8, ignore=255, classes=2)
    same = read_exam(write_wide(tmp_path / "two"), SPEC, ignore=255, classes=2)
    other = read_exam(write_wide(tmp_path / "other", ratio=3), SPEC, ignore=255, classes=2)
    assert one.fingerprint == same.fingerprint != other.fingerprint
