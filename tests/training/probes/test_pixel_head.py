import dataclasses

import numpy as np
import torch

from bootleg_training.probes.pixel_head import HeadSettings, LinearHead, segment_pixels
from bootleg_training.probes.scenes import Scenes
from bootleg_training.probes.segmentation import patch_sets
from tests.training.probes import scenery

CPU = torch.device("cpu")
QUICK = HeadSettings(iterations=60, batch=4, rate=0.1)


def halves(count=8, seed=0):
    """The border between two colours lies inside a row of patches, where no patch-level prediction can follow it."""
    masks = np.zeros((count, 32, 32), np.uint8)
    for index in range(count):
        masks[index, 14 + (index + seed) % 4 :] = 1
    return Scenes(scenery.COLOURS[masks], masks, 2, 255, f"halves-{seed}")


def sides(train, test, patch=8):
    pairs = [(scenery.colour_tokens(made, patch), made) for made in (train, test)]
    return tuple(zip(patch_sets(*pairs, CPU), (train, test), strict=True))


def test_it_segments_and_follows_a_border_inside_patches():
    made = sides(halves(), halves(seed=1))
    found = segment_pixels(*made, QUICK)
    assert found.miou > 0.95
    patches = made[1][0]
    assert found.miou > patches.score(patches.labels.flatten())  # the best that whole patches can do


def test_logits_are_a_linear_map_upsampled_bilinearly():
    head = LinearHead(3, 2)
    with torch.no_grad():
        head.classify.weight.copy_(torch.tensor([[1.0, 0, 0], [0, 0, 0]]))
        ramp = torch.zeros(1, 4, 3)
        ramp[0, [1, 3], 0] = 1.0  # the right column of a 2 x 2 grid
        logits = head(ramp, 4)
    torch.testing.assert_close(logits[0, 0], torch.tensor([0.0, 0.25, 0.75, 1.0]).expand(4, 4))


def test_ignored_pixels_neither_teach_nor_count():
    train, test = halves(), halves(seed=1)
    spoilt = train.masks.copy()
    spoilt[:, :, :16] = 255
    ignored = dataclasses.replace(test, masks=np.where(test.masks == 1, 255, test.masks).astype(np.uint8))
    found = segment_pixels(*sides(dataclasses.replace(train, masks=spoilt), test), QUICK)
    assert found.miou > 0.9
    assert segment_pixels(*sides(train, ignored), QUICK).miou < 1.0  # class 1 still predicted near the border


def test_a_batch_of_ignored_pixels_alone_does_no_harm():
    train = halves()
    train.masks[:7] = 255
    assert np.isfinite(segment_pixels(*sides(train, halves(seed=1)), HeadSettings(30, 2, 0.1)).miou)


def test_the_result_repeats():
    made = sides(halves(), halves(seed=1))
    short = HeadSettings(iterations=5, batch=2)
    assert segment_pixels(*made, short) == segment_pixels(*made, short)
