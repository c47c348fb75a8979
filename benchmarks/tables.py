"""Tables of README and docs, generated from ``results/*.json``.

A document holds ``<!-- results:NAME -->`` and ``<!-- /results -->``; what lies between is written here.

    python -m benchmarks.tables --write     write them (``make results``)
    python -m benchmarks.tables             fail when one differs
"""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks.result import read_result

if TYPE_CHECKING:
    from collections.abc import Callable

ROOT = Path(__file__).parents[1]
SLOT = re.compile(r"(<!-- results:(\w+) -->\n).*?(<!-- /results -->)", re.DOTALL)


def main() -> int:
    """Write or check every document."""
    stale = []
    for path in documents():
        text = path.read_text(encoding="utf-8")
        wanted = render(text)
        if text == wanted:
            continue
        if "--write" in sys.argv:
            path.write_text(wanted, encoding="utf-8")
        stale.append(path.relative_to(ROOT).as_posix())
    print("\n".join(stale) or "every table is up to date")
    return int(bool(stale) and "--write" not in sys.argv)


def documents() -> list[Path]:
    """Documents that may hold tables."""
    return [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]


def render(text: str) -> str:
    """Fill every slot of a document."""
    return SLOT.sub(lambda slot: slot[1] + table(slot[2]) + slot[3], text)


def table(name: str) -> str:
    """Markdown for one result, with a line that says where it comes from."""
    result = read_result(name)
    source = f"Measured {result['date']} on {result['hardware']}, commit `{result['commit']}`: `{result['command']}`"
    return f"{TABLES[name](result['rows'])}\n\n{source}\n"


def _pretrain(rows: list[dict[str, Any]]) -> str:
    head = ["data", "encoder", "images seen", "minutes", "probe", "accuracy", "untrained twin"]
    body = [
        [
            row["data"],
            row["encoder"],
            f"{row['images_seen']:,}",
            f"{row['training_minutes']:.0f}",
            row["probe"],
            f"{100 * row['accuracy']:.1f} %",
            f"{100 * row['random_init']:.1f} %",
        ]
        for row in rows
    ]
    return _markdown(head, body)


def _training(rows: list[dict[str, Any]]) -> str:
    head = ["step", "encoder", "batch", "images/s", "ratio"]
    body = [
        [row["step"], row["encoder"], str(row["batch"]), f"{row['images_per_s']:.0f}", f"{row['ratio']:.2f}"]
        for row in rows
    ]
    return _markdown(head, body)


def _serve(rows: list[dict[str, Any]]) -> str:
    head = ["model", "load", "clients", "images/s", "share of raw", "p50", "p99", "mean batch"]
    body = [
        [
            row["model"],
            row["load"],
            str(row["clients"]),
            f"{row['images_per_s']:.0f}",
            f"{100 * row['share_of_raw']:.0f} %",
            f"{row['p50_ms']:.1f} ms" if row["p50_ms"] else "",
            f"{row['p99_ms']:.1f} ms" if row["p99_ms"] else "",
            f"{row['mean_batch']:.1f}",
        ]
        for row in rows
    ]
    return _markdown(head, body)


def _markdown(head: list[str], body: list[list[str]]) -> str:
    lines = [head, ["---"] * len(head), *body]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


TABLES: dict[str, Callable[[list[dict[str, Any]]], str]] = {
    "pretrain": _pretrain,
    "serve": _serve,
    "training": _training,
}

if __name__ == "__main__":
    raise SystemExit(main())
