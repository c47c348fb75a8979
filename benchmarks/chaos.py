"""Thousands of mixed requests at a service whose model fails at random and whose Redis is frozen, killed and flushed.

    python -m benchmarks.chaos [--requests 5000] [--seed 0]

Writes ``results/chaos.json``: for each outcome, how many clients read it in an answer and how often the service counted
it. Clients that left have read nothing. The storm is the one of ``tests/service/chaos``, which the suite runs shorter.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
import tempfile
from pathlib import Path

from benchmarks.result import write_result
from tests.service.chaos.storm import Report, storm


def main() -> None:
    """Run it, and write what came of it if it went well."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--requests", type=int, default=5000)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        report = asyncio.run(storm(Path(folder), arguments.requests, seed=arguments.seed))
    if report.faults or report.counted.total() != report.sent or report.after != report.idle or report.exit_code:
        report.log = report.log[-5000:]
        sys.exit(f"the storm did harm: {report}")
    print(write_result("chaos", rows(report)))


def rows(report: Report) -> list[dict[str, object]]:
    """One row for all, one for each outcome, one for those who read no answer."""
    whole = {
        "outcome": "all",
        "sent": report.sent,
        "counted": report.counted.total(),
        "resident_mib_warm": round(report.memory_warm, 1),
        "resident_mib_end": round(report.memory_end, 1),
        "redis": dict(sorted(report.deeds.items())),
    }
    each = [
        {"outcome": outcome, "sent": report.seen[outcome], "counted": count}
        for outcome, count in report.counted.most_common()
    ]
    return [whole, *each, {"outcome": "no answer read", "sent": report.unseen, "counted": 0}]


if __name__ == "__main__":
    main()
