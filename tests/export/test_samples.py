import numpy as np

from bootleg_export.samples import natural_noise


def test_samples_are_8_bit_images_of_the_size_asked_for():
    images = natural_noise(3, 24, 40)
    assert images.shape == (3, 24, 40, 3)
    assert images.dtype == np.uint8


def test_the_same_seed_gives_the_same_images_and_another_seed_others():
    assert np.array_equal(natural_noise(2, 16, 16, seed=5), natural_noise(2, 16, 16, seed=5))
    assert not np.array_equal(natural_noise(2, 16, 16, seed=5), natural_noise(2, 16, 16, seed=6))


def test_every_image_uses_the_full_range():
    images = natural_noise(4, 32, 32)
    assert (images.min(axis=(1, 2, 3)) == 0).all()
    assert (images.max(axis=(1, 2, 3)) == 255).all()


def test_neighbouring_pixels_are_alike_as_in_photographs():
    grey = natural_noise(8, 64, 64).mean(-1)
    near = np.abs(np.diff(grey, axis=2)).mean()
    far = np.abs(grey[:, :, 32:] - grey[:, :, :32]).mean()
    assert near < 0.7 * far  # white noise: equal
