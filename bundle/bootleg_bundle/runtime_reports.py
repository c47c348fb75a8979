"""ONNX Runtime kept to itself: its official builds report to their makers from the moment they are imported.

They write a device id into the home folder as well. The rooms that import it call this first, in their ``__init__``:
its own call to turn reports off comes after the import, and too late.
"""

from __future__ import annotations

import os
from typing import Final

SWITCHES: Final = ("ORT_DISABLE_TELEMETRY", "ORT_TELEMETRY_DISABLED")
"""Read by 1.32, and by releases after it (microsoft/onnxruntime#29843)."""


def turn_off() -> None:
    """Turn reports off for this process and those it starts, unless the environment says otherwise."""
    for switch in SWITCHES:
        os.environ.setdefault(switch, "1")
