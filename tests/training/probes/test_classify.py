import torch

from bootleg_training.probes.attentive import AttentiveSettings
from bootleg_training.probes.classify import KINDS, NEEDS, Labelled, score, score_blocks
from bootleg_training.probes.knn import knn_accuracy
from bootleg_training.probes.linear import linear_probe

CPU = torch.device("cpu")
GRIDS = {"mean": (8,), "last4": (32,), "blocks": (3, 8), "patches": (4, 8)}


def labelled(count, seed):
    """Block 2 tells the class, blocks 1 and 3 do not."""
    generator = torch.Generator().manual_seed(seed)
    y = torch.randint(2, (count,), generator=generator)
    found = {kind: torch.randn(count, *shape, generator=generator) for kind, shape in GRIDS.items()}
    for kind in ("mean", "last4", "patches"):
        found[kind][..., 0] += (6.0 * y - 3).view(-1, *[1] * (found[kind].ndim - 2))
    found["blocks"][:, 1, 0] += 6.0 * y - 3
    return Labelled({kind: array.numpy() for kind, array in found.items()}, y)


def test_every_probe_finds_what_is_there_and_says_what_it_looked_at():
    train, test = labelled(200, 0), labelled(100, 1)
    scores = {kind: score(kind, train, test, CPU, AttentiveSettings(iterations=100, batch=32)) for kind in KINDS}
    assert min(found.accuracy for found in scores.values()) > 0.95
    assert scores["knn"].features == scores["linear"].features == "mean patch token"
    assert "last four blocks" in scores["linear-last4"].features
    assert scores["attentive"].features == "patch tokens"
    assert "k = 20, cosine, temperature 0.07" in scores["knn"].detail
    assert "100 iterations" in scores["attentive"].detail


def test_each_probe_reads_its_own_features_alone():
    train, test = labelled(100, 0), labelled(50, 1)
    for kind in KINDS:
        alone = [Labelled({NEEDS[kind]: side.features[NEEDS[kind]]}, side.labels) for side in (train, test)]
        settings = AttentiveSettings(iterations=5, batch=16)
        assert score(kind, *alone, CPU, settings) == score(kind, train, test, CPU, settings)


def test_the_headline_numbers_are_those_of_the_plain_functions():
    train, test = labelled(100, 0), labelled(50, 1)
    x, x_test = (side.tensor("mean", CPU) for side in (train, test))
    assert score("knn", train, test, CPU).accuracy == knn_accuracy(x, train.labels, x_test, test.labels)
    assert score("linear", train, test, CPU).accuracy == linear_probe(x, train.labels, x_test, test.labels).accuracy


def test_the_sweep_names_the_block_that_knows():
    scores = score_blocks(labelled(200, 0), labelled(100, 1), CPU)
    assert list(scores) == [f"{kind}-block-{block}" for kind in ("knn", "linear") for block in (1, 2, 3)]
    for kind in ("knn", "linear"):
        assert scores[f"{kind}-block-2"].accuracy > 0.95
        assert scores[f"{kind}-block-1"].accuracy < 0.75
        assert scores[f"{kind}-block-3"].accuracy < 0.75
        assert "block 2" in scores[f"{kind}-block-2"].features
