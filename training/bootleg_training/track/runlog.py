"""The record of a run as it is written: ``metrics.jsonl`` always, trackers where they were asked for.

The loop and the health monitor write; nothing here waits for the device but :meth:`RunLog.step`, once.
"""

from __future__ import annotations

import json
import math
from typing import TYPE_CHECKING, Any, Self

import torch

from bootleg_training.track.record import read_record

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

    from torch import Tensor

    from bootleg_training.engine.schedule import StepRates
    from bootleg_training.objective import Loss
    from bootleg_training.track.trackers import Tracker


class RunLog:
    """One JSON object a line. A resumed run continues the file behind the step it resumes from.

    Attributes:
        records: every line of the file, those of before a resumption included.
        damaged: lines found broken in the file and left out.
    """

    def __init__(self, path: Path, *, from_step: int = 0, trackers: Sequence[Tracker] = ()) -> None:
        self.records: list[dict[str, Any]] = []
        self.damaged = 0
        self._trackers = tuple(trackers)
        if path.is_file():
            old = read_record(path)
            self.damaged = old.damaged
            # A run that begins anew measures its step 0 again.
            self.records = [line for line in old.lines if from_step and line["step"] <= from_step]
            partial = path.with_name(path.name + ".partial")
            partial.write_text("".join(_line(record) for record in self.records), encoding="utf-8")
            partial.replace(path)  # a crash here leaves the old file or the new one
        self._file = path.open("a", encoding="utf-8")

    def step(
        self,
        done: int,
        images: int,
        seconds: float,
        rates: StepRates,
        measured: Mapping[str, Tensor],
        timing: Mapping[str, float] | None = None,
    ) -> str:
        """Record a step and return its note for the progress line.

        Args:
            done: steps taken.
            images: images seen.
            seconds: since the run began, interruptions left out.
            rates: of the step.
            measured: tensors by name; fetched from the device in one transfer.
            timing: throughput, waiting and memory since the last log point, by name.
        """
        flat = torch.cat([value.detach().float().reshape(-1) for value in measured.values()]).tolist()
        record: dict[str, Any] = {"step": done, "images": images, "seconds": round(seconds, 2)}
        for name, value in measured.items():
            numbers = [float(f"{number:.6g}") for number in flat[: value.numel()]]
            flat = flat[value.numel() :]
            record[name] = numbers if value.ndim else numbers[0]
        self.write({**record, **rates.__dict__, **(timing or {})})
        shares = " ".join(f"{100 * share:.0f}" for share in record["explained"])
        return f"loss {record['loss']:.3f}, explained % by layer: {shares}"

    def write(self, record: Mapping[str, Any]) -> None:
        """Write one line; a number that is not finite becomes null, as JSON has no other word for it."""
        line = _finite(record)
        self.records.append(line)
        self._file.write(_line(line))
        self._file.flush()
        for tracker in self._trackers:
            tracker.log(line["step"], dict(_numbers(line)))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()
        for tracker in self._trackers:
            tracker.close()


def measured_step(loss: Loss, grad_norm: Tensor, skipped_steps: Tensor) -> dict[str, Tensor]:
    """What a log line holds of one step."""
    return {
        "loss": loss.total,
        "grad_norm": grad_norm,
        "skipped_steps": skipped_steps,
        "loss_per_layer": loss.per_layer,
        "explained": loss.explained(),
        "target_std": loss.target_std(),
    }


def _line(record: Mapping[str, Any]) -> str:
    return json.dumps(record, allow_nan=False) + "\n"


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _finite(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _numbers(record: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, float]]:
    """Every number of a record but its step; those of a list are ``name/0``, ``name/1``, ..."""
    for name, value in record.items():
        if isinstance(value, list):
            yield from _numbers({f"{name}/{place}": item for place, item in enumerate(value)}, prefix)
        elif isinstance(value, int | float) and not isinstance(value, bool) and name != "step":
            yield prefix + name, float(value)
