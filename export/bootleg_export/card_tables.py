"""The tables of a model card: what was measured of probes, heads, precisions and parity."""

from __future__ import annotations

from typing import TYPE_CHECKING

from bootleg_training.checkpoint import head_probe

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from bootleg_bundle.manifest import Graph, Head, Parity, Probe, Task


def probe_table(probes: Sequence[Probe]) -> list[str]:
    """Each probe beside its untrained twin."""
    if not probes:
        return ["None were run."]
    rows = [
        (
            p.probe,
            p.dataset,
            p.metric,
            f"{p.value:.3f}",
            "" if p.random_init is None else f"{p.random_init:.3f}",
            p.detail,
        )
        for p in probes
    ]
    titles = ("probe", "data", "metric", "value", "untrained twin", "protocol")
    return ["Frozen features; the twin is the same encoder before any training.", "", *table(titles, rows)]


def head_table(heads: Mapping[str, Head], probes: Sequence[Probe]) -> list[str]:
    """Each head, its classes and its score."""
    scores = {probe.probe: f"{probe.value:.3f} ({probe.dataset})" for probe in probes if probe.metric == "mIoU"}
    rows = [
        (
            name,
            head.kind,
            head.input,
            f"{head.grid[0]} x {head.grid[1]}",
            scores.get(head_probe(name), "not measured"),
            ", ".join(f"{number} {each.name}" for number, each in enumerate(head.classes)),
        )
        for name, head in heads.items()
    ]
    return table(("head", "kind", "fed by", "grid", "mIoU", "classes"), rows)


def precision_tables(graphs: Mapping[str, Graph], tasks: Sequence[Task], sizes: Mapping[str, int]) -> list[str]:
    """The graphs, and what the lower precisions cost where that was measured."""
    rows = []
    for precision, graph in graphs.items():
        files = (graph.file, *graph.external_data)
        rows.append(
            (
                precision,
                graph.file,
                f"{sum(sizes[file] for file in files) / 1e6:.1f} MB" if set(files) <= set(sizes) else "",
                graph.opset,
                _invariance(graph.batch_invariance),
                f"{graph.calibration.images:,} images of {graph.calibration.dataset}" if graph.calibration else "",
            )
        )
    lines = table(("precision", "file", "size", "opset", "alone against in a batch", "ranges set by"), rows)
    if not tasks:
        return lines
    costs = [
        (t.precision, t.task, t.dataset, f"{t.fp32:.3f}", f"{t.value:.3f}", f"{t.drop:+.2f}", t.detail) for t in tasks
    ]
    titles = ("precision", "task", "data", "fp32", "this", "points lost of 100", "protocol")
    return [*lines, "", "What a lower precision costs:", "", *table(titles, costs)]


def _invariance(difference: float | None) -> str:
    if difference is None:
        return "not run"
    return f"{difference:.1e}" if difference else "equal"


def parity_table(parity: Sequence[Parity]) -> list[str]:
    """How far each graph's outputs are from PyTorch's."""
    rows = [
        (p.precision, p.output, p.images, f"{p.relative_frobenius:.1e}", f"{p.cosine_min:.7f}", f"{p.cosine_p1:.7f}")
        for p in parity
    ]
    titles = ("precision", "output", "images", "relative Frobenius", "smallest cosine", "its first percentile")
    return table(titles, rows)


def table(titles: Sequence[str], rows: Iterable[Sequence[object]]) -> list[str]:
    """Lines of a Markdown table; without titles for a list of facts."""
    return [
        f"| {' | '.join(titles)} |" if any(titles) else "| | |",
        f"|{' --- |' * len(titles)}",
        *(f"| {' | '.join(text(cell) for cell in row)} |" for row in rows),
    ]


def text(value: object) -> str:
    """Somebody's words as one line of Markdown that makes no cell, tag or link of its own."""
    line = " ".join(str(value).split())
    for sign in "\\|<>[]`":
        line = line.replace(sign, f"\\{sign}")
    return line
