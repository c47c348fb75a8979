"""What a failure of the engine means for what comes next, read from what the runtime says.

ONNX Runtime and TensorRT have no error types for this: the words are all there is. What is not recognised is an
ordinary failure, for which a batch is halved until the guilty image is alone.
"""

from __future__ import annotations

import enum
import re


class Fault(enum.Enum):
    """Kinds of failure."""

    ORDINARY = "ordinary"
    OUT_OF_MEMORY = "out_of_memory"
    FATAL = "fatal"


_OUT_OF_MEMORY = re.compile(
    r"out ?of ?memory|failed to allocate memory|cudaErrorMemoryAllocation|CUDA failure 2:|bad_alloc",
    re.IGNORECASE,
)
# After these the CUDA context is gone: every later call fails, or answers garbage (antirez/ds4#759).
_FATAL = re.compile(
    r"illegal (memory access|address|instruction)|misaligned address|device-side assert|launch failure"
    r"|uncorrectable ECC|CUDA (failure|error) (700|702|709|710|714|715|716|717|718|719|999)\b"
    r"|GPU (is lost|has fallen off)",
    re.IGNORECASE,
)


def classify(error: BaseException) -> Fault:
    """Tell the kinds apart."""
    if isinstance(error, MemoryError):
        return Fault.OUT_OF_MEMORY
    text = f"{type(error).__name__}: {error}"
    if _FATAL.search(text):
        return Fault.FATAL
    return Fault.OUT_OF_MEMORY if _OUT_OF_MEMORY.search(text) else Fault.ORDINARY
