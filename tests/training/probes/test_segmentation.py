import dataclasses

import numpy as np
import pytest
import torch

from bootleg_bundle.errors import DataError
from bootleg_training.probes import segmentation
from bootleg_training.probes.confusion import confusion, mean_iou
from bootleg_training.probes.scenes import Scenes
from bootleg_training.probes.segmentation import (
    PatchSet,
    label_counts,
    nearest_labels,
    patch_sets,
    segment_knn,
    segment_logistic,
    vote,
)
from tests.training.probes import scenery

CPU = torch.device("cpu")


def sets(count=12, patch=8, **changes):
    train, test = scenery.scenes(count, **changes), scenery.scenes(4, seed=1, **changes)
    return patch_sets((scenery.colour_tokens(train, patch), train), (scenery.colour_tokens(test, patch), test), CPU)


def by_hand(ignore=255):
    """One image of 2 x 2 patches of 2 pixels: all 0; two 1 and two 0; three 2; all ignored."""
    mask = np.array([[0, 0, 1, 0], [0, 0, 0, 1], [2, 2, 255, 255], [2, 0, 255, 255]], np.uint8)
    return Scenes(np.zeros((1, 4, 4, 3), np.uint8), mask[None], 3, ignore, "by hand")


def test_counts_and_labels_by_hand():
    counts = label_counts(by_hand(), 2)
    assert counts.tolist() == [[[4, 0, 0, 0], [2, 2, 0, 0], [1, 0, 3, 0], [0, 0, 0, 4]]]
    assert PatchSet(torch.zeros(1, 4, 1), counts).labels.tolist() == [[0, 0, 2, 3]]


def test_ignored_patches_are_not_learnt_from_and_ignored_pixels_not_scored():
    patches = PatchSet(torch.arange(4.0).view(1, 4, 1), label_counts(by_hand(), 2))
    x, y = patches.learnable()
    assert x.flatten().tolist() == [0, 1, 2]
    assert y.tolist() == [0, 0, 2]
    # predictions 0, 1, 2 and anything: class 0 has 4 of 7, class 1 has 2 of 4, class 2 has 3 of 4
    expected = (4 / 7 + 2 / 4 + 3 / 4) / 3
    assert patches.score(torch.tensor([0, 1, 2, 0])) == pytest.approx(expected)
    assert patches.score(torch.tensor([0, 1, 2, 1])) == pytest.approx(expected)


def test_the_score_is_that_of_predictions_copied_to_pixels():
    rng = np.random.default_rng(0)
    masks = rng.integers(0, 4, (5, 24, 24)).astype(np.uint8)  # label 3 is ignored
    made = Scenes(np.zeros((5, 24, 24, 3), np.uint8), masks, 3, 3, "noise")
    predicted = rng.integers(0, 3, (5, 4, 4))
    pixels = predicted.repeat(6, axis=1).repeat(6, axis=2)
    found = PatchSet(torch.zeros(5, 16, 1), label_counts(made, 4)).score(torch.from_numpy(predicted.ravel()))
    assert found == pytest.approx(mean_iou(confusion(masks, pixels, 3, ignore=3)))


def test_all_patches_ignored_is_an_error():
    made = dataclasses.replace(by_hand(), masks=np.full((1, 4, 4), 255, np.uint8))
    with pytest.raises(DataError, match="every one is ignored"):
        PatchSet(torch.zeros(1, 4, 1), label_counts(made, 2)).learnable()


def test_features_are_standardised_by_the_training_part_alone():
    train, test = sets()
    flat = train.features.flatten(0, 1)
    torch.testing.assert_close(flat.mean(dim=0), torch.zeros(3), atol=1e-4, rtol=0)
    torch.testing.assert_close(flat.std(dim=0), torch.ones(3), atol=1e-4, rtol=0)
    made, other = scenery.scenes(12), scenery.scenes(4, seed=1)
    shifted = scenery.colour_tokens(other, 8) + 50
    again, moved = patch_sets((scenery.colour_tokens(made, 8), made), (shifted, other), CPU)
    assert again.features.equal(train.features)
    assert (moved.features > test.features).all()


@pytest.mark.parametrize("probe", [segment_knn, segment_logistic])
def test_colours_that_are_labels_are_segmented(probe):
    assert probe(*sets()).miou == 1.0


@pytest.mark.parametrize("probe", [segment_knn, segment_logistic])
def test_features_without_information_score_little(probe):
    train, test = sets()
    blind = [PatchSet(torch.randn(side.features.shape, generator=torch.Generator().manual_seed(i)), side.counts)
             for i, side in enumerate((train, test))]  # fmt: skip
    assert probe(*blind).miou < 0.4


@pytest.mark.parametrize("probe", [segment_knn, segment_logistic])
def test_the_test_part_has_no_say_in_the_choice_and_the_result_repeats(probe):
    train, test = sets()
    noisy = PatchSet(train.features + torch.randn(train.features.shape, generator=torch.Generator()), train.counts)
    turned = PatchSet(-test.features, test.counts.flip(2))
    assert probe(noisy, test) == probe(noisy, test)
    assert probe(noisy, test).chosen == probe(noisy, turned).chosen


def test_the_choice_is_made_on_whole_images_and_the_end_fitted_to_all(monkeypatch):
    fitted, real = [], segmentation.fit_logistic
    monkeypatch.setattr(
        segmentation, "fit_logistic", lambda x, *rest, **how: fitted.append(len(x)) or real(x, *rest, **how)
    )
    segment_logistic(*sets(20))
    assert fitted == [18 * 16] * 8 + [20 * 16]


@pytest.mark.parametrize(("metric", "distance"), [("cosine", "cosine"), ("l2", "euclidean")])
def test_neighbours_are_those_of_a_plain_search(metric, distance):
    generator = torch.Generator().manual_seed(0)
    bank, asked = torch.randn(1, 40, 5, generator=generator), torch.randn(1, 9, 5, generator=generator)
    counts = torch.nn.functional.one_hot(torch.arange(40), 41)[None].int()  # every patch a label of its own
    found = nearest_labels(PatchSet(bank, counts), PatchSet(asked, counts[:, :9]), metric, 7, "")
    if distance == "cosine":
        unit = [torch.nn.functional.normalize(x[0], dim=1) for x in (asked, bank)]
        far = -unit[0] @ unit[1].T
    else:
        far = torch.cdist(asked[0], bank[0])
    assert found.equal(far.argsort(dim=1)[:, :7])


def test_chunks_do_not_change_neighbours(monkeypatch):
    train, test = sets()
    whole = nearest_labels(train, test, "l2", 5, "")
    monkeypatch.setattr(segmentation, "CELLS", 7 * 12 * 16)
    assert nearest_labels(train, test, "l2", 5, "").equal(whole)


def test_a_vote_by_hand():
    labels = torch.tensor([[2, 1, 1, 0], [0, 1, 2, 2], [2, 1, 0, 0]])
    assert vote(labels, 1, 3).tolist() == [2, 0, 2]
    assert vote(labels, 3, 3).tolist() == [1, 0, 0]  # the lowest of equals
    assert vote(labels, 4, 3).tolist() == [1, 2, 0]
    assert vote(labels, 30, 3).tolist() == [1, 2, 0]  # no more than there are
