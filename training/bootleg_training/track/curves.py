"""Which curves a run's page shows, and what to see in each: from the record to figures."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING, Any

from bootleg_training.track.figure import Curve
from bootleg_training.track.plot import Level, Series

if TYPE_CHECKING:
    from bootleg_training.track.folder import RunFolder
    from bootleg_training.track.plot import Point


def learning(run: RunFolder) -> list[Curve]:
    """What shows whether it learns, as far as the record has points."""
    return [curve for curve in (*_steps(run), *_checks(run)) if not curve.empty]


def machinery(run: RunFolder) -> list[Curve]:
    """Schedules, throughput and trouble, as far as the record has points."""
    return [curve for curve in _machine(run) if not curve.empty]


def _steps(run: RunFolder) -> list[Curve]:
    lines = run.record.steps
    return [
        Curve(
            "Share of the targets' variance explained",
            "0 % is no better than a constant, 100 % is exact. Comparable over time; it begins below zero.",
            _by_layer(run, lines, "explained"),
            unit="%",
            low=-0.2,
        ),
        Curve(
            "Loss",
            "Its targets move, so it may rise while the encoder learns. The thick line is the mean of the layers.",
            [*_by_layer(run, lines, "loss_per_layer"), Series("mean", _points(run, lines, "loss"))],
            low=0.0,
        ),
        Curve(
            "Target standard deviation",
            "Spread of a normalised target's channel over tokens. Towards zero, the layer's targets are a constant.",
            _by_layer(run, lines, "target_std"),
            low=0.0,
        ),
    ]


def _checks(run: RunFolder) -> list[Curve]:
    return [
        Curve(
            "k-NN accuracy",
            "Of mean patch tokens, labels of the pack. Only what rises above the untrained twin was learnt.",
            [_check(run, "knn", "teacher")],
            _twin(run, "knn"),
            unit="%",
        ),
        Curve(
            "RankMe",
            "Dimensions in use, effectively. It should rise above the untrained twin's.",
            _check_by_layer(run, "rank_me"),
            _twin(run, "rank_me"),
            low=0.0,
        ),
        Curve(
            "alpha-ReQ",
            "Decay of the spectrum. High: few directions hold everything; it should fall towards 1.",
            _check_by_layer(run, "alpha_req"),
            _twin(run, "alpha_req"),
        ),
        Curve(
            "Cosine of two images",
            "Mean over pairs of pooled features. At 1, images are no longer told apart.",
            _check_by_layer(run, "cosine"),
            _twin(run, "cosine"),
        ),
        Curve(
            "Cosine of student and teacher",
            "Token by token, for whole images. How far the teacher lags behind.",
            _check_by_layer(run, "student"),
        ),
    ]


def _machine(run: RunFolder) -> list[Curve]:
    lines = run.record.steps
    return [
        Curve("Learning rate", "Warm-up, then a cosine.", [Series("rate", _points(run, lines, "lr"))], low=0.0),
        Curve(
            "Teacher's momentum",
            "Share of the teacher kept at each step.",
            [Series("momentum", _points(run, lines, "momentum"))],
        ),
        Curve(
            "Gradient norm",
            "Before clipping.",
            [Series("norm", _points(run, lines, "grad_norm"))],
            low=0.0,
        ),
        Curve("Throughput", "Images a second between log lines.", [Series("images/s", _throughput(lines))], low=0.0),
        Curve(
            "Waiting for images",
            "Share of the time. Above a few per cent, the run is bound by its data.",
            [Series("waiting", _points(run, lines, "data_wait"))],
            unit="%",
            low=0.0,
        ),
        Curve(
            "Memory",
            "GiB that the leading process holds. It settles soon; a steady rise is a leak.",
            [Series("held", [(x, y and y / 2**30) for x, y in _points(run, lines, "memory")])],
            low=0.0,
        ),
        Curve(
            "Skipped steps",
            "Steps so far whose loss or gradient was not finite.",
            [Series("skipped", _points(run, lines, "skipped_steps"))] if _skipped(lines) else [],
            low=0.0,
        ),
    ]


def _x(run: RunFolder, line: dict[str, Any]) -> float:
    return float(line.get("images") or line["step"] * (run.batch_size or 1))


def _points(run: RunFolder, lines: list[dict[str, Any]], name: str) -> list[Point]:
    return [(_x(run, line), line.get(name)) for line in lines]


def _by_layer(run: RunFolder, lines: list[dict[str, Any]], name: str) -> list[Series]:
    count = max((len(line.get(name) or ()) for line in lines), default=0)
    columns = ([(_x(run, line), _at(line.get(name), place)) for line in lines] for place in range(count))
    return [Series(_layer(run, count, place), points, _tone(count, place)) for place, points in enumerate(columns)]


def _check(run: RunFolder, name: str, label: str) -> Series:
    checks = [] if run.twin is None else [run.twin]
    checks += [check for check in run.teacher if check.step or not checks]
    batch = run.batch_size or 1
    return Series(label, [(float(check.step * batch), getattr(check, name)) for check in checks], dots=True)


def _check_by_layer(run: RunFolder, name: str) -> list[Series]:
    checks = [*([] if run.twin is None else [run.twin]), *run.teacher]
    field, batch = f"{name}_layers", run.batch_size or 1
    count = max((len(getattr(check, field)) for check in checks), default=0)
    layers = [
        Series(
            _layer(run, count, place),
            [(float(check.step * batch), _at(getattr(check, field), place)) for check in checks],
            _tone(count, place),
        )
        for place in range(count)
    ]
    return layers if name == "student" else [*layers, _check(run, name, "embedding")]


def _twin(run: RunFolder, name: str) -> tuple[Level, ...]:
    value = getattr(run.twin, name) if run.twin else None
    return () if value is None else (Level("untrained twin", value),)


def _layer(run: RunFolder, count: int, place: int) -> str:
    return f"layer {run.layers[place]}" if len(run.layers) == count else f"target {place + 1}"


def _tone(count: int, place: int) -> float:
    return place / max(count - 1, 1)


def _at(values: Any, place: int) -> float | None:
    return values[place] if values and place < len(values) else None


def _throughput(lines: list[dict[str, Any]]) -> list[Point]:
    """As recorded; of older records, from the differences of their times."""
    if any("images_per_s" in line for line in lines):
        return [(float(line["images"]), line.get("images_per_s")) for line in lines if "images" in line]
    timed = [(line["images"], line["seconds"]) for line in lines if "images" in line and "seconds" in line]
    return [(float(seen), (seen - before) / (at - then)) for (before, then), (seen, at) in pairwise(timed) if at > then]


def _skipped(lines: list[dict[str, Any]]) -> bool:
    return any(line.get("skipped_steps") for line in lines)
