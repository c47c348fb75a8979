import itertools

import pytest
import torch

from bootleg_training.probes.steps import shuffled, warm_cosine

ROWS = torch.tensor([3, 5, 8, 13, 21, 34, 55])


def taken(batch, count, seed=0):
    return list(itertools.islice(shuffled(ROWS, batch, torch.Generator().manual_seed(seed)), count))


def test_a_pass_takes_each_row_once_and_the_next_in_another_order():
    batches = taken(1, 14)
    first, second = torch.cat(batches[:7]), torch.cat(batches[7:])
    assert first.sort().values.equal(ROWS)
    assert second.sort().values.equal(ROWS)
    assert not first.equal(second)


def test_batches_are_full_and_repeat_with_the_seed():
    assert {len(batch) for batch in taken(3, 9)} == {3}
    assert all(a.equal(b) for a, b in zip(taken(3, 9), taken(3, 9), strict=True))
    assert len(taken(100, 1)[0]) == len(ROWS)


def test_the_rate_rises_in_proportion_and_falls_to_zero_along_a_cosine():
    optimiser = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=2.0)
    schedule = warm_cosine(optimiser, 20, 0.2)
    rates = []
    for _ in range(20):
        rates.append(schedule.get_last_lr()[0])
        optimiser.step()
        schedule.step()
    assert rates[:5] == pytest.approx([0.5, 1.0, 1.5, 2.0, 2.0])
    assert rates[12] == pytest.approx(1.0)
    assert all(a > b for a, b in itertools.pairwise(rates[4:]))
    assert schedule.get_last_lr()[0] == pytest.approx(0.0, abs=1e-9)
