import pytest
import torch

from bootleg_bundle.errors import DataError
from bootleg_training.probes.split import held_out_tenth


@pytest.mark.parametrize(("count", "tenth"), [(2, 1), (9, 1), (10, 1), (25, 2), (1000, 100)])
def test_the_parts_are_disjoint_and_together_everything(count, tenth):
    held, kept = held_out_tenth(count, seed=0)
    assert len(held) == tenth
    assert torch.cat([held, kept]).sort().values.equal(torch.arange(count))


def test_the_split_repeats_and_follows_the_seed():
    assert held_out_tenth(100, 0)[0].equal(held_out_tenth(100, 0)[0])
    assert not held_out_tenth(100, 0)[0].equal(held_out_tenth(100, 1)[0])


def test_one_row_cannot_be_split():
    with pytest.raises(DataError, match="at least 2"):
        held_out_tenth(1, 0)
