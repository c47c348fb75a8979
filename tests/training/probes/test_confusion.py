import numpy as np
import pytest

from bootleg_training.probes.confusion import class_iou, confusion, mean_iou


def test_a_matrix_by_hand():
    truth = np.array([[0, 0, 1], [1, 2, 255]], np.uint8)
    predicted = np.array([[0, 1, 1], [1, 0, 2]], np.uint8)
    matrix = confusion(truth, predicted, 3, ignore=255)
    np.testing.assert_array_equal(matrix, [[1, 1, 0], [0, 2, 0], [1, 0, 0]])
    np.testing.assert_allclose(class_iou(matrix), [1 / 3, 2 / 3, 0])
    assert mean_iou(matrix) == pytest.approx(1 / 3)


def test_an_ignored_label_inside_the_range_counts_nowhere():
    truth, predicted = np.array([0, 1, 2, 2]), np.array([0, 1, 0, 1])
    matrix = confusion(truth, predicted, 3, ignore=2)
    assert mean_iou(matrix) == 1.0
    assert np.isnan(class_iou(matrix)[2])


def test_a_class_that_is_nowhere_does_not_enter_the_mean_and_one_wrongly_predicted_does():
    assert mean_iou(confusion(np.array([0, 0, 1]), np.array([0, 0, 1]), 5)) == 1.0
    assert mean_iou(confusion(np.array([0, 0]), np.array([0, 4]), 5)) == pytest.approx(0.25)


def test_nothing_counted_scores_zero():
    assert mean_iou(confusion(np.array([7, 7]), np.array([0, 1]), 2, ignore=7)) == 0.0


def test_matrices_of_parts_add_up():
    rng = np.random.default_rng(0)
    truth, predicted = rng.integers(0, 4, (2, 6, 5)), rng.integers(0, 4, (2, 6, 5))
    parts = sum(confusion(t, p, 4) for t, p in zip(truth, predicted, strict=True))
    np.testing.assert_array_equal(parts, confusion(truth, predicted, 4))
    assert parts.sum() == truth.size
