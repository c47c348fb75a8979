import numpy as np
import pytest
import torch
from PIL import Image

from bootleg_bundle.images import decode
from bootleg_training.config import AugmentConfig
from bootleg_training.data.augment import crop_and_normalise, interpolation, random_boxes
from tests import images, realdata

ZERO, ONE = (0.0, 0.0, 0.0), (1.0, 1.0, 1.0)
BOXES = [
    (0, 0, 48, 48),
    (3.25, 5.5, 43.75, 30.125),
    (10, 10, 20, 20),
    (0.3, 0.7, 47.9, 47.6),
    (20.5, 0, 22.5, 48),
    (0, 8, 48, 40),
]


def crop(picture, box, size, *, flip=False):
    return crop_and_normalise(
        torch.from_numpy(picture)[None],
        torch.tensor([box], dtype=torch.float64),
        torch.tensor([flip]),
        size,
        ZERO,
        ONE,
    )[0]


@pytest.mark.parametrize("size", [16, 32, 64])
@pytest.mark.parametrize("box", BOXES)
def test_a_crop_is_pillows_resize_of_the_box(box, size):
    picture = images.scene(48, 48)
    expected = np.asarray(Image.fromarray(picture).resize((size, size), Image.Resampling.BICUBIC, box=box))
    difference = np.abs(crop(picture, box, size).numpy() * 255 - expected)
    assert difference.max() < 1.25  # Pillow rounds twice, the first time under the gain of the kernel; here nothing is


@pytest.mark.parametrize("box", BOXES)
def test_a_crop_equals_pillows_kernel_without_its_rounding(box):
    noise = np.random.default_rng(0).integers(256, size=(48, 48, 3), dtype=np.uint8)
    channels = [
        Image.fromarray(noise[:, :, c].astype(np.float32)).resize((32, 32), Image.Resampling.BICUBIC, box=box)
        for c in range(3)
    ]
    expected = np.stack([np.asarray(channel) for channel in channels], axis=2).clip(0, 255)
    np.testing.assert_allclose(crop(noise, box, 32).numpy() * 255, expected, atol=2e-3)


def test_a_flip_mirrors_the_crop():
    picture = images.scene(48, 48)
    straight, mirrored = crop(picture, BOXES[1], 32), crop(picture, BOXES[1], 32, flip=True)
    torch.testing.assert_close(mirrored, straight.flip(1), atol=1e-6, rtol=0)
    assert (mirrored - straight).abs().max() > 0.1


def test_each_image_of_a_batch_has_its_own_box_and_flip():
    pictures = np.stack([images.scene(48, 48, seed=seed) for seed in range(4)])
    boxes, flips = BOXES[:4], [False, True, True, False]
    whole = crop_and_normalise(
        torch.from_numpy(pictures), torch.tensor(boxes, dtype=torch.float64), torch.tensor(flips), 32, ZERO, ONE
    )
    for i in range(4):
        torch.testing.assert_close(whole[i], crop(pictures[i], boxes[i], 32, flip=flips[i]), atol=1e-6, rtol=0)


def test_pixels_are_normalised_per_channel():
    mean, std = (0.1, 0.2, 0.3), (0.5, 0.25, 0.125)
    picture = torch.from_numpy(np.full((1, 48, 48, 3), 51, np.uint8))
    box, flip = torch.tensor([[0.0, 0, 48, 48]], dtype=torch.float64), torch.tensor([False])
    out = crop_and_normalise(picture, box, flip, 32, mean, std)
    torch.testing.assert_close(out, ((0.2 - torch.tensor(mean)) / torch.tensor(std)).expand(1, 32, 32, 3))


def test_the_whole_image_at_its_own_size_is_unchanged():
    picture = images.scene(32, 32)
    torch.testing.assert_close(crop(picture, (0, 0, 32, 32), 32) * 255, torch.from_numpy(picture).float())


def test_overshoot_is_clipped_as_pillow_does():
    edges = np.zeros((48, 48, 3), np.uint8)
    edges[:, 24:] = 255
    out = crop(edges, (12, 12, 36, 36), 64)
    assert float(out.min()) == 0.0
    assert float(out.max()) == 1.0


def test_interpolation_weights_sum_to_one_and_stay_near_the_box():
    weights = interpolation(torch.tensor([10.0, 0.0]).double(), torch.tensor([20.0, 48.0]).double(), 48, 32)
    torch.testing.assert_close(weights.sum(dim=2), torch.ones(2, 32))
    assert not weights[0, :, :7].any()
    assert not weights[0, :, 23:].any()


def test_boxes_lie_inside_and_follow_scale_and_aspect():
    config = AugmentConfig(scale=(0.3, 0.6))
    boxes, flips = random_boxes(config, 4000, 48, 60, np.random.default_rng(0))
    left, top, right, bottom = boxes.numpy().T
    assert (left >= 0).all()
    assert (top >= 0).all()
    assert (right <= 60 + 1e-9).all()
    assert (bottom <= 48 + 1e-9).all()
    area, aspect = (right - left) * (bottom - top) / (48 * 60), (right - left) / (bottom - top)
    assert area.min() >= 0.3 - 1e-9
    assert area.max() <= 0.6 + 1e-9
    assert area.mean() == pytest.approx(0.45, abs=0.02)
    assert aspect.min() >= 0.75 - 1e-9
    assert aspect.max() <= 4 / 3 + 1e-9
    assert np.log(aspect).mean() == pytest.approx(0, abs=0.02)
    assert flips.double().mean().item() == pytest.approx(0.5, abs=0.03)


def test_a_box_that_can_never_fit_is_the_whole_image():
    config = AugmentConfig(scale=(1.0, 1.0), aspect=(3.0, 4.0))
    boxes, _ = random_boxes(config, 5, 48, 48, np.random.default_rng(0))
    assert boxes.tolist() == [[0, 0, 48, 48]] * 5


def test_flips_can_be_turned_off():
    _, flips = random_boxes(AugmentConfig(flip=False), 100, 48, 48, np.random.default_rng(0))
    assert not flips.any()


def test_a_real_photograph_is_cropped_as_pillow_crops_it():
    (data,) = realdata.photographs(1)
    picture = decode(data)[:200, :200].copy()
    box = (13.7, 2.2, 150.3, 171.9)
    expected = np.asarray(Image.fromarray(picture).resize((64, 64), Image.Resampling.BICUBIC, box=box))
    difference = np.abs(crop(picture, box, 64).numpy() * 255 - expected)
    assert difference.mean() < 0.5
    assert difference.max() < 4
