"""What a lower precision costs on labelled images: k-NN and linear accuracy of its embeddings beside float32's.

Build and verify call it when the user names labelled data. The probes are those of training, on embeddings that the
exported graphs give; nothing here is trained further or kept.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch

from bootleg_bundle.manifest import GRAPH_INPUT, Task
from bootleg_export.session import open_session
from bootleg_training.probes.classify import POOLED, score_pooled
from bootleg_training.progress import meter

if TYPE_CHECKING:
    from collections.abc import Iterable

    from bootleg_bundle.preprocess import PreprocessSpec
    from bootleg_export.judge import GraphFile
    from bootleg_export.labelled import LabelledData, Side

MAX_DROP = 0.5
"""Points of accuracy that a lower precision may lose."""

BATCH = 32


def measure_tasks(files: Iterable[GraphFile], data: LabelledData, spec: PreprocessSpec) -> tuple[Task, ...]:
    """Score every precision but fp32 on every probe.

    Args:
        files: graphs that ONNX Runtime can run, fp32's among them.
        data: labelled images.
        spec: preprocessing.
    """
    scores: dict[str, dict[str, float]] = {}
    for file in files:
        train, test = embed(file, data.train, spec), embed(file, data.test, spec)
        scores[file.precision] = {
            kind: score_pooled(kind, train, data.train.labels, test, data.test.labels).accuracy for kind in POOLED
        }
    detail = f"{len(data.train):,} images to learn from, {len(data.test):,} to score on"
    return tuple(
        Task(
            precision=precision,
            task=kind,
            dataset=data.test.data.name,
            value=round(value, 4),
            fp32=round(scores["fp32"][kind], 4),
            detail=detail,
        )
        for precision, found in scores.items()
        if precision != "fp32"
        for kind, value in found.items()
    )


def task_fault(task: Task) -> str | None:
    """What a task's figure breaks, in words; None when it passes."""
    if task.drop <= MAX_DROP + 1e-9:  # 0.9 - 0.895 is a hair over half a point
        return None
    return f"{task.task} on {task.dataset} loses {task.drop:.2f} points (<= {MAX_DROP})"


def embed(file: GraphFile, side: Side, spec: PreprocessSpec) -> torch.Tensor:
    """Embeddings ``[images, D]`` by ONNX Runtime on the CPU."""
    session = open_session(file.path, file.external)
    rows = []
    with meter(f"{file.precision} embeddings", len(side)) as shown:
        for pixels in side.batches(spec, BATCH):
            rows.append(session.run(["embedding"], {GRAPH_INPUT: pixels})[0])
            shown.update(sum(map(len, rows)))
    return torch.from_numpy(np.concatenate(rows))
