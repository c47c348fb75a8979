import numpy as np
import pytest

from bootleg_export.parity import GATES, Gate, measure

LOOSE = Gate(relative_frobenius=1, cosine_min=0.999999, cosine_p1=0.99, batch_invariance=1)


def rows(shape=(4, 8), seed=0):
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def one(reference, actual):
    (row,) = measure("fp32", {"embedding": reference}, {"embedding": actual})
    return row


def test_equal_outputs_measure_as_equal_and_pass():
    row = one(rows(), rows())
    assert (row.relative_frobenius, row.max_abs, row.images) == (0, 0, 4)
    assert row.cosine_min == pytest.approx(1)
    assert GATES["fp32"].passes(row)


def test_the_error_is_relative_to_the_size_of_the_reference():
    error = 1e-3 * rows(seed=1)
    small, large = one(rows(), rows() + error), one(1000 * rows(), 1000 * (rows() + error))
    assert large.relative_frobenius == pytest.approx(small.relative_frobenius, rel=1e-2)
    assert not GATES["fp32"].passes(small)


def test_one_turned_vector_among_many_fails_by_its_cosine():
    reference = rows((1000, 8))
    actual = reference.copy()
    actual[500] = -actual[500]
    row = one(reference, actual)
    assert row.cosine_min == pytest.approx(-1)
    assert not LOOSE.passes(row)
    assert LOOSE.fault(row) == "smallest cosine -1.0000000 (>= 0.999999)"


def test_tokens_are_judged_by_the_first_percentile_of_their_cosines():
    reference = rows((1000, 8))
    few, many = reference.copy(), reference.copy()
    few[:5] *= -1
    many[:15] *= -1
    (passes,) = measure("fp32", {"patch_tokens": reference}, {"patch_tokens": few})
    (fails,) = measure("fp32", {"patch_tokens": reference}, {"patch_tokens": many})
    assert LOOSE.fault(passes) is None
    assert LOOSE.fault(fails).startswith("cosine p1 -1.0")


def test_a_fault_names_the_bound_and_the_figure():
    row = one(rows(), rows() * 1.5)
    assert GATES["fp32"].fault(row) == "relative Frobenius 5.0e-01 (<= 1e-05)"


def test_patch_tokens_are_compared_token_by_token():
    reference = rows((2, 3, 3, 8))
    actual = reference.copy()
    actual[1, 2, 0] *= -1
    assert one(reference, actual).cosine_min == pytest.approx(-1)


def test_an_answer_that_is_not_finite_is_measured_and_does_not_pass():
    actual = rows()
    actual[0, 0] = np.nan
    assert not GATES["fp32"].passes(one(rows(), actual))


def test_a_shape_that_differs_is_our_fault_and_stops():
    with pytest.raises(AssertionError, match="embedding"):
        one(rows(), rows((4, 7)))
