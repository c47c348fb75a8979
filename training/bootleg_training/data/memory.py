"""How much memory is free, for the choice of what is kept in it; and how much this process holds, for the record."""

from __future__ import annotations

from pathlib import Path

import torch

_MEMINFO = Path("/proc/meminfo")
_GROUP = Path("/sys/fs/cgroup")
_STATUS = Path("/proc/self/status")


def free_memory(device: torch.device, meminfo: Path = _MEMINFO, group: Path = _GROUP) -> int | None:
    """Bytes free on the device; None where that cannot be told.

    Of a CPU: what the kernel calls available, and no more than the control group (cgroup v2) leaves. The group
    counts cached files as used, so that the answer errs towards too little.
    """
    if device.type == "cuda":
        return int(torch.cuda.mem_get_info(device)[0])
    if device.type != "cpu":
        return None
    try:
        lines = dict(line.split(":", 1) for line in meminfo.read_text(encoding="ascii").splitlines())
        free = int(lines["MemAvailable"].split()[0]) * 1024
    except (OSError, KeyError, ValueError):  # not Linux
        return None
    try:
        limit = int((group / "memory.max").read_text(encoding="ascii"))
        used = int((group / "memory.current").read_text(encoding="ascii"))
    except (OSError, ValueError):  # no such file, or "max": no limit
        return free
    return max(0, min(free, limit - used))


def held_memory(status: Path = _STATUS) -> int | None:
    """Bytes that this process holds by itself, mapped files left out; None where that cannot be told.

    What grows over hours shows here; pages of a mapped pack, which the kernel takes back when it likes, do not.
    """
    try:
        lines = dict(line.split(":", 1) for line in status.read_text(encoding="ascii").splitlines())
        return int(lines["RssAnon"].split()[0]) * 1024
    except (OSError, KeyError, ValueError):  # not Linux
        return None
