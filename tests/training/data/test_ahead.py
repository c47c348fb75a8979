import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bootleg_training.data.ahead import ahead


@given(count=st.integers(0, 40), depth=st.integers(0, 10), workers=st.integers(1, 4))
def test_results_come_in_the_order_of_the_items(count, depth, workers):
    with ThreadPoolExecutor(workers) as pool:
        assert list(ahead(pool, lambda n: n * n, range(count), depth=depth)) == [n * n for n in range(count)]


@pytest.mark.parametrize("depth", [0, 1, 5])
def test_no_more_than_the_depth_waits_for_a_slow_consumer(depth):
    drawn = 0

    def items():
        nonlocal drawn
        while True:
            drawn += 1
            yield drawn

    with ThreadPoolExecutor(2) as pool:
        results = ahead(pool, lambda n: n, items(), depth=depth)
        for taken in range(1, 8):
            assert next(results) == taken
            assert drawn == taken + depth
        results.close()


def test_the_next_result_is_made_while_the_present_one_is_used():
    made = [threading.Event() for _ in range(3)]

    def make(n):
        made[n].set()
        return n

    with ThreadPoolExecutor(1) as pool:
        results = ahead(pool, make, range(3), depth=1)
        next(results)
        assert made[1].wait(10)  # nobody asked for it yet
        assert not made[2].is_set()
        results.close()


def test_an_error_is_raised_in_its_place_and_ends_the_work():
    ran = []

    def fail_at_three(n):
        ran.append(n)
        if n == 3:
            raise ValueError("three")
        return n

    with ThreadPoolExecutor(1) as pool:
        results = ahead(pool, fail_at_three, range(1000), depth=2)
        assert [next(results) for _ in range(3)] == [0, 1, 2]
        with pytest.raises(ValueError, match="three"):
            next(results)
    assert max(ran) <= 5
