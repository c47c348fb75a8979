"""The checks of a bundle on labelled images: what each of its precisions costs on a task.

``bootleg verify --data`` calls it. Apart from :mod:`bootleg_export.verify`, which needs no PyTorch.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from bootleg_bundle.bundle import open_bundle
from bootleg_bundle.errors import ConfigError
from bootleg_export.check import Check
from bootleg_export.judge import NO_KERNELS, graph_file
from bootleg_export.labelled import open_labelled
from bootleg_export.mask_tasks import measure_masks, open_exam
from bootleg_export.tasks import MAX_DROP, measure_tasks, task_fault

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from pathlib import Path

    from bootleg_bundle.bundle import Bundle
    from bootleg_bundle.manifest import Task
    from bootleg_export.judge import GraphFile


def verify_tasks(path: Path, train: str, test: str | None) -> Iterator[Check]:
    """Open everything at once, so that bad input is told at once; measure when the checks are asked for.

    Args:
        path: the bundle.
        train: labelled images to learn from.
        test: others to score on; None holds out a fifth of ``train``.

    Raises:
        BundleError: the bundle cannot be opened.
        ConfigError: it has no precision to compare with fp32.
        DataError: the labelled images cannot be used.
    """
    bundle = open_bundle(path)
    files, spec = _comparable(bundle, "--data"), bundle.manifest.preprocess
    data = open_labelled(spec, train, test)
    return _checks(lambda: measure_tasks(files, data, spec))


def verify_masks(path: Path, scenes: Path, *, ignore: int | None) -> Iterator[Check]:
    """The same for the bundle's heads on labelled pictures.

    Args:
        path: the bundle.
        scenes: folder of ``images/`` and ``masks/``.
        ignore: label of the pixels that do not count.

    Raises:
        BundleError: the bundle cannot be opened.
        ConfigError: it has no head, or no precision to compare with fp32.
        DataError: the pictures cannot be used.
    """
    bundle = open_bundle(path)
    files, heads = _comparable(bundle, "--scenes"), bundle.manifest.heads
    exam = open_exam(scenes, bundle.manifest.preprocess, heads, ignore=ignore)
    return _checks(lambda: measure_masks(files, path, heads, exam))


def _comparable(bundle: Bundle, option: str) -> list[GraphFile]:
    files = [graph_file(bundle, precision) for precision in bundle.manifest.graphs if precision not in NO_KERNELS]
    if len(files) < 2:
        raise ConfigError(f"{option} compares precisions with fp32: this bundle has no other that a processor can run")
    return files


def _checks(measure: Callable[[], Iterable[Task]]) -> Iterator[Check]:
    for task in measure():
        detail = f"{task.value:.4f}, fp32 {task.fp32:.4f}: loses {task.drop:.2f} points (<= {MAX_DROP}); {task.detail}"
        yield Check(f"{task.precision} {task.task} on {task.dataset}", task_fault(task) is None, detail)
