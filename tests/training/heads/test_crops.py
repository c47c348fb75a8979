import numpy as np
import pytest

from bootleg_bundle.preprocess import PreprocessSpec, apply
from bootleg_training.config import AugmentConfig
from bootleg_training.heads.crops import Crops
from bootleg_training.heads.labelled import Labelled
from tests.training.probes import scenery

SPEC = PreprocessSpec(height=32, width=32)


@pytest.fixture
def source():
    made = scenery.scenes(3, side=64, patch=16)
    wide = [np.ascontiguousarray(image[:48]) for image in made.images]
    return Labelled(wide, [mask[:48] for mask in made.masks], 3, "made")


def crops(source, views=20, *, label_side=32, flip=True, seed=0):
    return Crops(source, SPEC, views, label_side, AugmentConfig(scale=(0.3, 1.0), flip=flip), seed)


def test_the_first_crop_of_every_picture_is_the_services(source):
    made = crops(source, 1)
    assert len(made) == 3
    expected = np.stack([apply(SPEC, picture) for picture in source.images])
    np.testing.assert_array_equal(made.images(0, 3), expected)


def test_labels_lie_on_their_pixels_in_every_crop(source):
    made = crops(source)
    images, labels = made.images(0, len(made)).astype(int), made.labels()
    nearest = np.abs(images[..., None, :] - (scenery.COLOURS.astype(int) + 10)).sum(axis=-1).argmin(axis=-1)
    agree = (nearest == labels).mean(axis=(1, 2))
    assert agree.min() > 0.85  # resampling mixes colours along the edges alone
    assert (nearest[:, :, ::-1] == labels).mean() < 0.7


def test_a_crop_follows_from_its_number_and_the_seed_alone(source):
    made = crops(source)
    np.testing.assert_array_equal(made.images(7, 9), made.images(0, 60)[7:9])
    np.testing.assert_array_equal(made.images(7, 9), crops(source).images(7, 9))
    assert not np.array_equal(made.images(7, 9), crops(source, seed=1).images(7, 9))
    assert not np.array_equal(made.images(3, 4), made.images(6, 7))  # two random crops of one picture
    assert made.images(58, 99).shape == (2, 32, 32, 3)


def test_half_of_the_random_crops_are_mirrored_and_none_where_it_is_not_wanted(source):
    mirrored, plain = crops(source).images(3, 60), crops(source, flip=False).images(3, 60)
    same = [np.array_equal(one, other) for one, other in zip(mirrored, plain, strict=True)]
    turned = [np.array_equal(one[:, ::-1], other) for one, other in zip(mirrored, plain, strict=True)]
    assert all(one != other for one, other in zip(same, turned, strict=True))
    assert 15 < sum(turned) < 42


def test_labels_have_the_side_asked_for(source):
    assert crops(source, 2, label_side=16).labels().shape == (6, 16, 16)
