"""The end of a run: count every id of every part against the source, write down who failed, and say that it is so."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from bootleg_bundle.errors import DataError
from bootleg_embed.journal import flush, flush_folder, replace_file
from bootleg_embed.parquet import storable
from bootleg_embed.parts.part import count_part, read_ids
from bootleg_embed.parts.plan import FAULTS, RECORD, UNFINISHED, Plan, Record, sweep
from bootleg_embed.run import name_of

if TYPE_CHECKING:
    from pathlib import Path

    from bootleg_bundle.sources import Source

_AGAIN = "remove it, and run the same command again"


def check_and_record(folder: Path, plan: Plan, source: Source) -> Record:
    """Write ``_faults.jsonl`` and ``_embed.json``.

    Raises:
        DataError: a part is missing, damaged, another run's, or does not hold the source's images in their order.
    """
    partition, failed = plan.partition, 0
    new = folder / f"{FAULTS}{UNFINISHED}"
    with new.open("w", encoding="utf-8", newline="\n") as faults:
        for part in range(len(partition)):
            path, numbers = folder / partition.name(part), partition.numbers(part)
            _check_rows(path, count_part(path, plan.identity, part).rows, len(numbers))
            for number, (name, reason) in zip(numbers, read_ids(path), strict=True):
                if plan.identity.ids != "hash" and name != storable(name_of(source, number, plan.identity.ids)):
                    raise DataError(f"{path} holds {name!r:.200} in the place of image {number:,}: {_AGAIN}")
                if reason is not None:
                    failed += 1
                    line = {"row": number, "id": name, "status": "failed", "reason": reason}
                    faults.write(json.dumps(line, ensure_ascii=False) + "\n")
        flush(faults)
    new.replace(folder / FAULTS)
    flush_folder(folder)
    sweep(folder)
    record = Record(plan=plan, parts=len(partition), rows=plan.identity.images, failed=failed)
    replace_file(folder / RECORD, record.model_dump_json(indent=2).encode() + b"\n")
    return record


def _check_rows(path: Path, found: int, wanted: int) -> None:
    if found != wanted:
        raise DataError(f"{path} holds {found:,} rows where {wanted:,} belong: {_AGAIN}")
