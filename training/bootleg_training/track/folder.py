"""A run folder read back as it stands: finished, stopped, or still being written. Nothing is changed.

The report reads runs of any age through this, so only what a page needs is looked at, and a part that
is not there is empty. A part that is there but broken is an error that names it.
"""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from bootleg_bundle.errors import DataError
from bootleg_training.health.figures import Health
from bootleg_training.health.monitor import RECENT, TEACHER, TWIN
from bootleg_training.health.verdict import Verdict, verdict
from bootleg_training.track.record import Record, read_record

if TYPE_CHECKING:
    from pathlib import Path


@dataclass(frozen=True)
class RunFolder:
    """What is known of a run.

    Attributes:
        path: the folder.
        config: ``config.json``: resolved settings.
        began: ``began.json``: data, commit, hardware, versions; empty in older runs.
        record: ``metrics.jsonl``.
        checkpoint: the checkpoint's ``config.json``; empty before the run is finished.
    """

    path: Path
    config: dict[str, Any]
    began: dict[str, Any]
    record: Record
    checkpoint: dict[str, Any]

    @property
    def name(self) -> str:
        """The run's name, or its folder's."""
        return str(self.config.get("name") or self.path.resolve().name)

    @property
    def layers(self) -> tuple[int, ...]:
        """Target layers; empty where they are not recorded."""
        return tuple((self.config.get("target") or {}).get("layers") or ())

    @property
    def batch_size(self) -> int | None:
        """Images of a step."""
        return self.config.get("batch_size")

    @property
    def steps(self) -> int | None:
        """Steps of the whole run."""
        images, batch = self.config.get("images"), self.batch_size
        return math.ceil(images / batch) if images and batch else None

    @property
    def done(self) -> int:
        """The last step on record."""
        return max((line["step"] for line in self.record.lines), default=0)

    @property
    def twin(self) -> Health | None:
        """Figures of the untrained twin."""
        found = [line for line in self.record.checks if line["encoder"] == TWIN]
        return Health.of(found[0]) if found else None

    @property
    def teacher(self) -> list[Health]:
        """Figures of the teacher, check by check."""
        return [Health.of(line) for line in self.record.checks if line["encoder"] == TEACHER]

    def verdict(self) -> Verdict | None:
        """The verdict on the last check, judged by today's rules; None before the first check."""
        if not self.teacher:
            return None
        now = self.teacher[-1]
        recent = [line for line in self.record.steps if line["step"] <= now.step][-RECENT:]
        return verdict(now, self.twin or Health(0), recent, done=now.step / self.steps if self.steps else None)


def read_run(path: Path) -> RunFolder:
    """Read a run folder.

    Raises:
        DataError: no run folder, or a file of it that is no JSON object.
    """
    config, record = _json(path / "config.json"), read_record(path / "metrics.jsonl")
    if not record.lines and "batch_size" not in config:  # a checkpoint has a config.json, too
        raise DataError(f"{path} is no run folder: it has neither config.json nor metrics.jsonl of `bootleg train`")
    return RunFolder(path, config, _json(path / "began.json"), record, _json(path / "checkpoint" / "config.json"))


def _json(path: Path) -> dict[str, Any]:
    if not path.is_file():
        return {}
    try:
        fields = json.loads(path.read_bytes())
    except ValueError as error:
        raise DataError(f"{path} is no JSON") from error
    if not isinstance(fields, dict):
        raise DataError(f"{path} holds no JSON object")
    return fields
