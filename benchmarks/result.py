"""The one format of a published result, and its writer."""

from __future__ import annotations

import datetime as dt
import json
import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bootleg_bundle.cores import usable_cores
from bootleg_training.provenance import commit, hardware, processor

if TYPE_CHECKING:
    import torch

FOLDER = Path(__file__).with_name("results")


def write_result(name: str, rows: list[dict[str, Any]], *, device: torch.device | None = None) -> Path:
    """Write ``results/NAME.json`` with where, when and how the rows were measured."""
    program = f"python -m benchmarks.{Path(sys.argv[0]).stem}"
    arguments = [Path(argument).name if argument.startswith("/") else argument for argument in sys.argv[1:]]
    cuda = device is not None and device.type == "cuda"
    result = {
        "hardware": hardware(device) if cuda else f"{usable_cores()} cores, {processor()}",
        "commit": commit(),
        "command": " ".join([program, *map(shlex.quote, arguments)]),
        "date": dt.datetime.now(dt.UTC).date().isoformat(),
        "rows": rows,
    }
    FOLDER.mkdir(exist_ok=True)
    path = FOLDER / f"{name}.json"
    path.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    return path


def read_result(name: str) -> dict[str, Any]:
    """Read a result back."""
    result: dict[str, Any] = json.loads((FOLDER / f"{name}.json").read_text(encoding="utf-8"))
    return result
