import pytest
import torch
from torch.nn import functional as F

from bootleg_training.probes import knn
from bootleg_training.probes.knn import CANDIDATES, knn_accuracies, knn_accuracy, knn_probe


def clusters(per_class, classes=4, width=16, spread=0.05, seed=0):
    generator = torch.Generator().manual_seed(seed)
    centres = torch.eye(width)[:classes]
    labels = torch.arange(classes).repeat_interleave(per_class)
    return centres[labels] + spread * torch.randn(len(labels), width, generator=generator), labels


def test_separated_classes_are_all_found():
    bank, labels = clusters(30)
    queries, answers = clusters(10, seed=1)
    assert knn_accuracy(bank, labels, queries, answers) == 1.0


def test_wrong_answers_count_as_wrong():
    bank, labels = clusters(30)
    queries, answers = clusters(10, seed=1)
    answers = answers.clone()
    answers[:10] = 3  # the first class, called by another's name
    assert knn_accuracy(bank, labels, queries, answers) == pytest.approx(0.75)


def test_features_without_information_score_at_chance():
    generator = torch.Generator().manual_seed(0)
    bank, queries = torch.randn(2000, 16, generator=generator), torch.randn(2000, 16, generator=generator)
    labels, answers = (torch.randint(4, (2000,), generator=generator) for _ in range(2))
    assert knn_accuracy(bank, labels, queries, answers) == pytest.approx(0.25, abs=0.04)


def test_only_directions_matter():
    bank, labels = clusters(30)
    queries, answers = clusters(10, spread=0.4, seed=1)
    scale = torch.rand(len(bank), 1, generator=torch.Generator().manual_seed(2)) * 100 + 0.01
    assert knn_accuracy(bank * scale, labels, 7 * queries, answers) == knn_accuracy(bank, labels, queries, answers)


def test_a_near_neighbour_outvotes_two_far_ones():
    bank = torch.tensor([[1.0, 0.0], [0.0, 1.0], [0.0, 1.0]])
    labels = torch.tensor([0, 1, 1])
    query = torch.tensor([[1.0, 0.1]])
    assert knn_accuracy(bank, labels, query, torch.tensor([0]), k=3) == 1.0
    assert knn_accuracy(bank, labels, query, torch.tensor([1]), k=3, temperature=1e3) == 1.0


def test_a_bank_smaller_than_k_is_used_whole():
    assert knn_accuracy(*clusters(2), *clusters(1, seed=1), k=20) == 1.0


def test_chunks_do_not_change_the_score(monkeypatch):
    bank, labels = clusters(30, spread=0.5)
    queries, answers = clusters(10, spread=0.5, seed=1)
    whole = knn_accuracy(bank, labels, queries, answers)
    monkeypatch.setattr(knn, "CELLS", 7 * len(bank))
    assert 0.3 < whole < 1.0
    assert knn_accuracy(bank, labels, queries, answers) == whole


def test_one_search_gives_what_a_search_for_each_k_gives():
    bank, labels = clusters(30, spread=0.5)
    queries, answers = clusters(10, spread=0.5, seed=1)
    together = knn_accuracies(bank, labels, queries, answers, (1, 20, 500))
    assert together == {k: knn_accuracy(bank, labels, queries, answers, k=k) for k in (1, 20, 500)}


def islands(seed, groups=8, per_group=8):
    """Tight groups, each of one class, far fewer images than 20: more neighbours only bring other groups in."""
    generator = torch.Generator().manual_seed(seed)
    centres = F.normalize(torch.randn(groups, 4, generator=torch.Generator().manual_seed(9)), dim=1)
    labels = torch.arange(groups).repeat_interleave(per_group)
    return centres[labels] + 0.01 * torch.randn(len(labels), 4, generator=generator), labels % 2


def test_the_headline_stays_at_20_while_the_best_k_is_told():
    bank, queries = islands(0), islands(1)
    found = knn_probe(*bank, *queries)
    assert found.accuracy == knn_accuracy(*bank, *queries)
    assert found.chosen_k in CANDIDATES
    assert found.chosen_accuracy == knn_accuracy(*bank, *queries, k=found.chosen_k)


def test_the_test_part_has_no_say_in_k():
    bank, (queries, answers) = clusters(30, spread=0.6), clusters(10, spread=0.6, seed=1)
    assert knn_probe(*bank, queries, answers).chosen_k == knn_probe(*bank, -queries, answers.flip(0)).chosen_k
