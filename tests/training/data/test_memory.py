import pytest
import torch

from bootleg_training.data.memory import free_memory, held_memory

CPU = torch.device("cpu")
MEMINFO = "MemTotal:  1000 kB\nMemFree:  10 kB\nMemAvailable:  600 kB\n"


@pytest.fixture
def machine(tmp_path):
    def make(meminfo=MEMINFO, **group):
        (tmp_path / "meminfo").write_text(meminfo)
        for name, value in group.items():
            (tmp_path / f"memory.{name}").write_text(f"{value}\n")
        return free_memory(CPU, tmp_path / "meminfo", tmp_path)

    return make


def test_what_the_kernel_calls_available_is_free(machine):
    assert machine() == 600 * 1024
    assert machine(max="max", current=5) == 600 * 1024


@pytest.mark.parametrize(("limit", "used", "free"), [(5000, 1000, 4000), (10**9, 0, 600 * 1024), (100, 200, 0)])
def test_a_control_group_may_leave_less(machine, limit, used, free):
    assert machine(max=limit, current=used) == free


def test_where_it_cannot_be_told_nothing_is_claimed(machine, tmp_path):
    assert free_memory(CPU, tmp_path / "absent") is None
    assert machine("MemTotal: 5 kB\n") is None
    assert machine("nonsense") is None
    assert free_memory(torch.device("meta")) is None


def test_held_memory_is_the_process_own_without_mapped_files(tmp_path):
    status = tmp_path / "status"
    status.write_text("Name: x\nVmRSS:  900 kB\nRssAnon:  300 kB\nRssFile:  600 kB\n")
    assert held_memory(status) == 300 * 1024
    assert held_memory(tmp_path / "absent") is None
    status.write_text("Name: x\n")
    assert held_memory(status) is None
