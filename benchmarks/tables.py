"""Tables of README and docs, generated from ``results/*.json``.

A document holds ``<!-- results:NAME -->`` and ``<!-- /results -->``; what lies between is written here. A result with
several tables names them: ``<!-- results:study:layers -->``.

    python -m benchmarks.tables --write     write them (``make results``)
    python -m benchmarks.tables             fail when one differs
"""

from __future__ import annotations

import re
import statistics
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks.result import read_result

if TYPE_CHECKING:
    from collections.abc import Callable

ROOT = Path(__file__).parents[1]
SLOT = re.compile(r"(<!-- results:([\w:-]+) -->\n).*?(<!-- /results -->)", re.DOTALL)

CHOICE = re.compile(r"layers [\d,]+")
"""The method of a run on target layers that are no method's own."""


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
    """Markdown for one table, ``RESULT`` or ``RESULT:TABLE``, with a line that says where it comes from."""
    result = read_result(name.partition(":")[0])
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
    rows = [row for row in rows if "images_per_s" in row]
    measured = any("mfu" in row for row in rows)
    head = ["step", "encoder", "batch", "images/s", "ratio", *(["MFU"] if measured else [])]
    body = [
        [
            row["step"],
            row["encoder"],
            str(row["batch"]),
            f"{row['images_per_s']:.0f}",
            f"{row['ratio']:.2f}",
            *([f"{100 * row['mfu']:.0f} %"] if measured else []),
        ]
        for row in rows
    ]
    return _markdown(head, body)


def _training_parts(rows: list[dict[str, Any]]) -> str:
    """One column an encoder: milliseconds and share of the step."""
    parts = [row for row in rows if row["step"].startswith("part: ")]
    encoders = list(dict.fromkeys(row["encoder"] for row in parts))
    cells = {(row["step"], row["encoder"]): f"{row['ms']:.1f} ms, {100 * row['share']:.0f} %" for row in parts}
    steps = dict.fromkeys(row["step"] for row in parts)
    body = [[step.removeprefix("part: "), *(cells.get((step, encoder), "") for encoder in encoders)] for step in steps]
    return _markdown(["part", *encoders], body)


def _training_updates(rows: list[dict[str, Any]]) -> str:
    head = ["update", "encoder", "time", "ratio"]
    body = [
        [row["step"].removeprefix("update: "), row["encoder"], f"{row['ms']:.2f} ms", f"{row['ratio']:.1f}"]
        for row in rows
        if row["step"].startswith("update: ")
    ]
    return _markdown(head, body)


def _study(rows: list[dict[str, Any]]) -> str:
    """Methods at their longest runs; the layer curve has a table of its own."""
    rows = [row for row in rows if not row["method"].startswith("layers ")]
    longest = max((row["images"] for row in rows), default=0)
    rows = [row for row in rows if row["images"] in (0, longest)]
    rows.sort(key=lambda row: row["images"] == 0)
    head = ["method", "weights", "steps", "seeds", "k-NN", "linear", "attentive"]
    groups = _grouped(rows, lambda row: (row["method"], row["which"], f"{row['steps']:,}" if row["steps"] else ""))
    return _markdown(head, [[*key, *_seeds(group)] for key, group in groups.items()])


def _study_layers(rows: list[dict[str, Any]]) -> str:
    """The layers' choice: every set of target layers at the length of the runs that are no method's own."""
    lengths = {row["images"] for row in rows if CHOICE.fullmatch(row["method"])}
    rows = [
        row
        for row in rows
        if row["images"] in lengths and (CHOICE.fullmatch(row["method"]) or row["method"] == "Bootleg")
    ]
    rows.sort(key=lambda row: (len(row["target_layers"]), row["target_layers"]))
    head = ["target layers", "weights", "steps", "seeds", "k-NN", "linear", "attentive"]
    groups = _grouped(rows, lambda row: (", ".join(map(str, row["target_layers"])), row["which"], f"{row['steps']:,}"))
    return _markdown(head, [[*key, *_seeds(group)] for key, group in groups.items()])


def _target_parts(rows: list[dict[str, Any]]) -> str:
    """One line a layer of each encoder."""
    head = ["teacher", "layer", "constant", "position", "own pixels, linearly", "rest"]
    shares = ("constant", "position", "pixels", "rest")
    body = [[row["method"], str(row["layer"]), *(f"{100 * row[key]:.1f} %" for key in shares)] for row in rows]
    return _markdown(head, body)


def _grouped(
    rows: list[dict[str, Any]], key: Callable[[dict[str, Any]], tuple[str, ...]]
) -> dict[tuple[str, ...], list[dict[str, Any]]]:
    groups: dict[tuple[str, ...], list[dict[str, Any]]] = {}
    for row in rows:
        groups.setdefault(key(row), []).append(row)
    return groups


def _seeds(group: list[dict[str, Any]]) -> list[str]:
    """How many seeds, then mean and standard deviation over them for k-NN, linear and attentive."""
    cells = [str(len({row["seed"] for row in group}))]
    for probe in ("knn", "linear", "attentive"):
        found = [100 * row["accuracy"] for row in group if row["probe"] == probe]
        spread = f" ± {statistics.stdev(found):.1f}" if len(found) > 1 else ""
        cells.append(f"{statistics.mean(found):.1f}{spread} %" if found else "")
    return cells


def _segmentation(rows: list[dict[str, Any]]) -> str:
    """One line an encoder, one column a head: mean IoU."""
    heads = list(dict.fromkeys(row["head"] for row in rows))
    groups = _grouped(rows, lambda row: (row["data"], row["encoder"], row["weights"], f"{row['side']} px"))
    body = []
    for key, group in groups.items():
        found = {row["head"]: f"{100 * row['miou']:.1f} %" for row in group}
        body.append([*key, *(found.get(head, "") for head in heads)])
    return _markdown(["data", "encoder", "trained on, images seen", "input", *heads], body)


def _search(rows: list[dict[str, Any]]) -> str:
    head = ["images", "index", "parameters", "recall@10", "searches/s, exact = 1"]
    body = [
        [
            f"{row['images']:,}",
            row["index"],
            row["parameters"],
            f"{100 * row['recall_at_10']:.1f} %",
            f"{row['rate_ratio_to_exact']:.1f}" if "rate_ratio_to_exact" in row else "",
        ]
        for row in rows
    ]
    return _markdown(head, body)


def _serve(rows: list[dict[str, Any]]) -> str:
    """What a reader of README asks first; :func:`_serve_all` has every load."""
    rows = [row for row in rows if row.get("images_per_request", 1) == 1 and "open loop" not in row["load"]]
    head = ["model", "load", "clients", "images/s", "share of raw", "p50", "p99", "mean batch"]
    body = [
        [
            row["model"],
            row["load"],
            str(row["clients"] or ""),
            f"{row['images_per_s']:.0f}",
            f"{100 * row['share_of_raw']:.0f} %",
            *_milliseconds(row, "p50_ms", "p99_ms"),
            f"{row['mean_batch']:.1f}" if row.get("mean_batch") else "",
        ]
        for row in rows
    ]
    return _markdown(head, body)


def _sizing_decode(rows: list[dict[str, Any]]) -> str:
    head = ["JPEG", "file", "decode and resize, one core", "images/s for each core", "memory while it lasts"]
    body = [
        [
            f"{row['width']:,} x {row['height']:,}",
            f"{row['file_mb']:.2f} MiB",
            f"{row['cpu_ms']:.1f} ms",
            f"{1000 / row['cpu_ms']:.0f}",
            f"{row['peak_mb']:.0f} MiB",
        ]
        for row in rows
        if row["what"] == "decode"
    ]
    return _markdown(head, body)


def _sizing_redis(rows: list[dict[str, Any]]) -> str:
    head = ["result", "numbers", "Redis, bytes for each", "results in 256 MiB"]
    body = [
        [
            " x ".join([row["what"], *map(str, row["shape"])]).replace(" x ", ", ", 1),
            f"{row['payload_bytes']:,} bytes",
            f"{row['redis_bytes']:,}",
            f"{2**28 // row['redis_bytes']:,}",
        ]
        for row in rows
        if row["what"] != "decode"
    ]
    return _markdown(head, body)


def _serve_all(rows: list[dict[str, Any]]) -> str:
    """Every load, and what it cost client and service."""
    costs = ["service, CPU", "client, CPU"]
    head = ["model", "load", "clients", "images each", "images/s", "share of raw", "less client", "p50", "p99", *costs]
    body = [
        [
            row["model"],
            row["load"],
            str(row["clients"] or ""),
            str(row.get("images_per_request", "")),
            f"{row['images_per_s']:.0f}",
            f"{100 * row['share_of_raw']:.0f} %",
            f"{100 * row['share_less_client']:.0f} %" if row.get("share_less_client") else "",
            *_milliseconds(row, "p50_ms", "p99_ms"),
            *(f"{row[key]:.2f} ms" if key in row else "" for key in ("service_ms", "client_ms")),
        ]
        for row in rows
    ]
    return _markdown(head, body)


def _milliseconds(row: dict[str, Any], *keys: str) -> list[str]:
    return [f"{row[key]:.1f} ms" if row.get(key) else "" for key in keys]


def _soak(rows: list[dict[str, Any]]) -> str:
    """Ten moments of it, the last one among them."""
    every = max(1, len(rows) // 10)
    body = [
        [f"{row['requests']:,}", f"{row['images']:,}", f"{row['refused']:,}", f"{row['rss_mb']:.0f} MB"]
        for row in rows[::-every][:10][::-1]
    ]
    return _markdown(["requests", "images", "refused as broken", "resident memory"], body)


def _export(rows: list[dict[str, Any]]) -> str:
    head = ["encoder", "precision", "MB", "relative Frobenius", "smallest cosine", "speed, CPU", "k-NN, points lost"]
    body = [
        [
            row["model"],
            row["precision"],
            f"{row['size_mb']:.1f}",
            f"{row['rel_frobenius']:.1e}",
            f"{row['cosine_min']:.5f}",
            f"{row['cpu_ratio_to_fp32']:.2f}" if "cpu_ratio_to_fp32" in row else "",
            f"{row['knn_drop']:.2f}" if "knn_drop" in row else "",
        ]
        for row in rows
    ]
    return _markdown(head, body)


def _embed_cost(rows: list[dict[str, Any]]) -> str:
    """One column an encoder: milliseconds and share of each stage."""
    encoders = list(dict.fromkeys(row["encoder"] for row in rows))
    cells = {
        (row["stage"], row["encoder"]): f"{row['ms_per_image']:.3f} ms, {100 * row['share']:.1f} %" for row in rows
    }
    body = [
        [stage, *(cells[stage, encoder] for encoder in encoders)] for stage in dict.fromkeys(r["stage"] for r in rows)
    ]
    totals = [sum(row["ms_per_image"] for row in rows if row["encoder"] == encoder) for encoder in encoders]
    body.append(["all", *(f"{total:.1f} ms" for total in totals)])
    return _markdown(["stage", *encoders], body)


def _embed_cost_images(rows: list[dict[str, Any]]) -> str:
    """Arithmetic on the measured costs: core-hours, what is written, and what indexes of it take."""
    head = ["images", "encoder", "core-hours", "read", "written", "flat, float32", "HNSW, M = 32", "IVF-PQ, 64 bytes"]
    body = []
    for images in (10**6, 10**8, 10**9):
        for (encoder,), group in _grouped(rows, lambda row: (row["encoder"],)).items():
            one = group[0]
            vector = 4 * one["dimensions"]
            # HNSW keeps 2 M links of 4 bytes in its lowest layer, where nearly all are; PQ keeps an 8-byte id.
            sizes = (one["input_bytes"], one["output_bytes"], vector, vector + 2 * 32 * 4, 64 + 8)
            hours = sum(row["ms_per_image"] for row in group) * images / 3.6e6
            body.append(
                [
                    f"{images:.0e}".replace("e+0", "e"),
                    encoder,
                    f"{hours:,.1f}",
                    *(_size(images * size) for size in sizes),
                ]
            )
    return _markdown(head, body)


def _size(count: float) -> str:
    return f"{count / 1e9:.2f} GB" if count < 1e12 else f"{count / 1e12:.2f} TB"


def _markdown(head: list[str], body: list[list[str]]) -> str:
    lines = [head, ["---"] * len(head), *body]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


TABLES: dict[str, Callable[[list[dict[str, Any]]], str]] = {
    "embed_cost": _embed_cost,
    "embed_cost:images": _embed_cost_images,
    "export": _export,
    "pretrain": _pretrain,
    "search": _search,
    "segmentation": _segmentation,
    "serve": _serve,
    "sizing:decode": _sizing_decode,
    "sizing:redis": _sizing_redis,
    "serve:all": _serve_all,
    "soak": _soak,
    "study": _study,
    "study:layers": _study_layers,
    "study-long": _study,
    "study-nano": _study,
    "target_parts": _target_parts,
    "training": _training,
    "training:parts": _training_parts,
    "training:updates": _training_updates,
}

if __name__ == "__main__":
    raise SystemExit(main())
