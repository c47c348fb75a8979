import pytest
import torch

from bootleg_training.engine.peak import PeakMemory
from tests.training.tiny import CPU


def status(folder, rss, peak):
    (folder / "status").write_text(f"Name:\tbootleg\nVmHWM:\t{peak} kB\nVmRSS:\t{rss} kB\n")


def test_growth_is_counted_from_the_beginning(tmp_path):
    status(tmp_path, 100, 500)
    peak = PeakMemory(CPU, tmp_path)
    assert (tmp_path / "clear_refs").read_text() == "5"
    status(tmp_path, 120, 180)
    assert peak.bytes() == 80 * 1024


def test_a_process_that_shrank_took_nothing(tmp_path):
    status(tmp_path, 100, 100)
    peak = PeakMemory(CPU, tmp_path)
    status(tmp_path, 50, 60)
    assert peak.bytes() == 0


def test_where_the_kernel_tells_nothing_it_is_unknown(tmp_path):
    assert PeakMemory(CPU, tmp_path / "none").bytes() is None


def test_a_real_allocation_is_seen():
    peak = PeakMemory(CPU)
    if peak.bytes() is None:
        pytest.skip("not Linux")
    held = torch.ones(32 * 2**20, dtype=torch.uint8)
    assert peak.bytes() >= 0.9 * held.numel()
