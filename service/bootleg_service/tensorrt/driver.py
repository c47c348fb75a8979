"""Is there a CUDA driver? Asked before anything of TensorRT is imported or created.

TensorRT's runtime, created on a machine without one, ends the process with a segmentation fault.
"""

from __future__ import annotations

import ctypes
from typing import Final

from bootleg_service.errors import StartupError

DRIVER: Final = "libcuda.so.1"


def driver_loads() -> bool:
    """Whether the CUDA driver's library can be loaded here."""
    try:
        ctypes.CDLL(DRIVER)
    except OSError:
        return False
    return True


def check_driver(what: str) -> None:
    """Refuse to go on without a driver.

    Args:
        what: needs it; begins the message.

    Raises:
        StartupError: in one line.
    """
    if not driver_loads():
        raise StartupError(f"{what}: no CUDA driver ({DRIVER}) can be loaded on this machine")
