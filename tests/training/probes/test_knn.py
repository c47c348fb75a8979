import pytest
import torch

from bootleg_training.probes import knn
from bootleg_training.probes.knn import knn_accuracy


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
    monkeypatch.setattr(knn, "CHUNK", 7)
    assert 0.3 < whole < 1.0
    assert knn_accuracy(bank, labels, queries, answers) == whole
