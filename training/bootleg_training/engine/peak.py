"""How much memory a piece of work takes at its peak, for ``--plan`` and the benchmarks."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

import torch

_PROC = Path("/proc/self")


class PeakMemory:
    """Watches from its making on."""

    def __init__(self, device: torch.device, proc: Path = _PROC) -> None:
        self._device, self._proc = device, proc
        if device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(device)
            return
        with suppress(OSError):  # not Linux, or not allowed: an earlier peak may count, which errs towards too much
            (proc / "clear_refs").write_text("5", encoding="ascii")  # the kernel's high-water mark begins anew
        self._before = self._status("VmRSS")

    def bytes(self) -> int | None:
        """The most that was in use: allocated by PyTorch on a CUDA device; of a CPU, by how much the process grew.

        None where that cannot be told. Of a CPU, mapped pages of the data count as well.
        """
        if self._device.type == "cuda":
            return int(torch.cuda.max_memory_allocated(self._device))
        highest = self._status("VmHWM")
        return None if highest is None or self._before is None else max(0, highest - self._before)

    def _status(self, key: str) -> int | None:
        try:
            lines = (self._proc / "status").read_text(encoding="utf-8").splitlines()
        except OSError:  # not Linux
            return None
        found = [line.split()[1] for line in lines if line.startswith(f"{key}:")]
        return int(found[0]) * 1024 if found else None
