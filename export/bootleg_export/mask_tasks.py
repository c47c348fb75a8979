"""What a lower precision costs on masks: mean IoU of each head behind it, beside the same head behind float32.

Build and verify call it when the user names labelled pictures. They are shown as the service shows them, and counted at
the resolution of their masks, as `bootleg train-head` scores a head.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch

from bootleg_bundle.errors import ConfigError
from bootleg_bundle.manifest import GRAPH_INPUT, HEAD_OUTPUT, Task
from bootleg_export.session import open_session
from bootleg_training.heads.labelled import read_exam
from bootleg_training.heads.score import count_logits
from bootleg_training.probes.confusion import mean_iou
from bootleg_training.probes.segment import dataset_name
from bootleg_training.progress import meter

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping
    from pathlib import Path

    from numpy.typing import NDArray

    from bootleg_bundle.manifest import Head
    from bootleg_bundle.preprocess import PreprocessSpec
    from bootleg_export.judge import GraphFile
    from bootleg_training.heads.labelled import Labelled

BATCH = 16


@dataclass(frozen=True)
class Exam:
    """Labelled pictures, as the encoder sees them, and the label that does not count."""

    name: str
    data: Labelled
    ignore: int | None


def open_exam(folder: Path, spec: PreprocessSpec, heads: Mapping[str, Head], *, ignore: int | None) -> Exam:
    """Read a folder of ``images/`` and ``masks/``.

    Args:
        folder: 8-bit PNG label maps beside pictures of the same stems.
        spec: of the encoder.
        heads: of the bundle; every label must be a class of each.
        ignore: label of the pixels that do not count.

    Raises:
        ConfigError: the bundle has no head to score.
        DataError: the folder cannot be used, or holds a label that a head has no class for.
    """
    if not heads:
        raise ConfigError("--scenes scores segmentation heads, and there is none; `bootleg train-head` makes one")
    classes = min(len(head.classes) for head in heads.values())
    return Exam(dataset_name(folder), read_exam(folder, spec, ignore=ignore, classes=classes), ignore)


def measure_masks(files: Iterable[GraphFile], folder: Path, heads: Mapping[str, Head], exam: Exam) -> tuple[Task, ...]:
    """Score every head behind every precision but fp32.

    Args:
        files: encoder graphs that ONNX Runtime can run, fp32's among them.
        folder: of the bundle, where the heads' graphs lie.
        heads: by name.
        exam: from :func:`open_exam`.
    """
    scores = {
        (file.precision, name): _miou(file, folder / head.graph.file, head, exam)
        for file in files
        for name, head in heads.items()
    }
    return tuple(
        Task(
            precision=precision,
            task=f"miou:{name}",
            dataset=exam.name,
            value=round(value, 4),
            fp32=round(scores["fp32", name], 4),
            detail=f"{len(exam.data.images):,} pictures",
        )
        for (precision, name), value in scores.items()
        if precision != "fp32"
    )


def _miou(file: GraphFile, graph: Path, head: Head, exam: Exam) -> float:
    classes = len(head.classes)
    logits = (torch.from_numpy(row)[None] for batch in _logits(file, graph, head, exam) for row in batch)
    return mean_iou(count_logits(logits, exam.data.masks, classes=classes, ignore=exam.ignore))


def _logits(file: GraphFile, graph: Path, head: Head, exam: Exam) -> Iterator[NDArray[np.float32]]:
    """Logits ``[b, C, h, w]``, a batch of pictures at a time."""
    encoder, decoder = open_session(file.path, file.external), open_session(graph)
    images = exam.data.images
    with meter(f"{file.precision} {graph.stem}", len(images)) as shown:
        for start in range(0, len(images), BATCH):
            pixels = np.stack(images[start : start + BATCH])
            (tokens,) = encoder.run([head.input], {GRAPH_INPUT: pixels})
            yield decoder.run([HEAD_OUTPUT], {head.input: tokens})[0]
            shown.update(start + len(pixels))
