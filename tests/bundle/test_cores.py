import os

import pytest

from bootleg_bundle.cores import usable_cores


@pytest.mark.parametrize(
    ("text", "cores"), [("100000 100000", 1), ("50000 100000", 1), ("max 100000", None), ("junk", None)]
)
def test_a_containers_quota_bounds_the_cores(tmp_path, text, cores):
    quota = tmp_path / "cpu.max"
    quota.write_text(text)
    assert usable_cores(quota) == (cores or len(os.sched_getaffinity(0)))


def test_without_a_quota_the_affinity_counts(tmp_path):
    assert usable_cores(tmp_path / "absent") == len(os.sched_getaffinity(0))
