"""What computes: cores, memory, CUDA cards, a compiler, and how fast matrices are multiplied."""

from __future__ import annotations

import re
import shutil
import time
from pathlib import Path

import torch

from bootleg_bundle.cores import usable_cores
from bootleg_training.data.memory import free_memory
from bootleg_training.doctor.line import Line, size
from bootleg_training.provenance import processor

CPUINFO = Path("/proc/cpuinfo")
DRIVER = Path("/proc/driver/nvidia/version")
INSTRUCTIONS = ("avx2", "avx512f", "avx512_bf16", "amx_bf16")
COMPILERS = ("c++", "g++", "clang++")
LITTLE, TOO_LITTLE = 4 * 2**30, 2**30
"""The shipped encoder trains in about 1 GiB."""
SECONDS = 0.3
SIDES = {"cpu": 512, "cuda": 8192}
PRECISIONS = {"fp32": torch.float32, "bf16": torch.bfloat16}


def lines() -> list[Line]:
    """Everything about the machine."""
    return [*cpu(), memory(free_memory(torch.device("cpu"))), *cuda(), compiler(), *arithmetic()]


def cpu() -> list[Line]:
    """Cores and instructions."""
    cores, threads = usable_cores(), torch.get_num_threads()
    known = CPUINFO.read_text(encoding="utf-8").split() if CPUINFO.is_file() else []
    has = ", ".join(name for name in INSTRUCTIONS if name in known) or "no vector instructions known"
    value = f"{processor()}: {cores} usable cores, {threads} threads; {has}"
    if threads > cores:
        return [Line("warn", "processor", value, f"more threads than cores: set OMP_NUM_THREADS={cores}")]
    return [Line("ok", "processor", value)]


def memory(free: int | None) -> Line:
    """Judge what is free."""
    if free is None:
        return Line("ok", "memory", "how much is free cannot be told here")
    if free < TOO_LITTLE:
        return Line("bad", "memory", f"{size(free)} free", "end other programs: training will not fit")
    if free < LITTLE:
        return Line("warn", "memory", f"{size(free)} free", "`bootleg train --plan` says what fits")
    return Line("ok", "memory", f"{size(free)} free")


def cuda() -> list[Line]:
    """Each card, or why there is none."""
    driver = _driver()
    if not torch.cuda.is_available():
        if driver is None:
            return [Line("ok", "CUDA", "no card")]
        built = torch.version.cuda
        advice = f"this torch wants CUDA {built}: update the driver" if built else "install torch built with CUDA"
        return [Line("warn", "CUDA", f"driver {driver}, but torch {torch.__version__} cannot use it", advice)]
    found: list[Line] = []
    for number in range(torch.cuda.device_count()):
        free, total = torch.cuda.mem_get_info(number)
        card = f"{torch.cuda.get_device_name(number)}, {size(free)} of {size(total)} free; driver {driver}"
        if torch.cuda.get_device_capability(number) < (8, 0):
            found.append(Line("warn", f"CUDA {number}", card, "no bfloat16: use --set precision=fp32"))
        else:
            found.append(Line("ok", f"CUDA {number}", f"{card}; bfloat16"))
    return found


def compiler() -> Line:
    """What ``torch.compile`` needs; on by default with CUDA only."""
    found = next((path for path in map(shutil.which, COMPILERS) if path), None)
    if found:
        return Line("ok", "compiler", f"{found}, for torch.compile")
    level = "warn" if torch.cuda.is_available() else "ok"
    return Line(level, "compiler", "none", "install g++, or use --set compile=false")  # type: ignore[arg-type]


def arithmetic() -> list[Line]:
    """Matrix products a second, in each precision of training, on the processor and on a card."""
    found: list[Line] = []
    for device in ("cpu", *(["cuda"] if torch.cuda.is_available() else [])):
        rates = {name: matrix_rate(device, dtype) / 1e9 for name, dtype in PRECISIONS.items()}
        value = ", ".join(f"{name} {rate:,.0f} GFLOP/s" for name, rate in rates.items())
        if rates["bf16"] < rates["fp32"]:
            found.append(Line("warn", f"matrices on {device}", value, "bf16 gains nothing: --set precision=fp32"))
        else:
            found.append(Line("ok", f"matrices on {device}", value))
    return found


def matrix_rate(device: str, dtype: torch.dtype) -> float:
    """FLOP/s of square matrix products: the best of as many as fit into ``SECONDS``."""
    side = SIDES[device]
    a, b = (torch.ones(side, side, dtype=dtype, device=device) for _ in range(2))
    best, end = 0.0, time.monotonic() + SECONDS
    a @ b  # warms up
    while not best or time.monotonic() < end:
        _wait(device)
        begun = time.perf_counter()
        a @ b
        _wait(device)
        best = max(best, 2 * side**3 / max(time.perf_counter() - begun, 1e-9))
    return best


def _wait(device: str) -> None:
    if device == "cuda":
        torch.cuda.synchronize()


def _driver() -> str | None:
    match = re.search(r"\s(\d{3,}\.[\d.]+)\s", DRIVER.read_text(encoding="utf-8")) if DRIVER.is_file() else None
    return match[1] if match else None
