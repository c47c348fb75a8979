"""Is it learning? Measures the teacher of a running pretraining now and then, beside its untrained twin.

The loop calls it in every process, in the same order. It changes no weights, draws from no global
random state, and leaves what it saw in the run's record.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import torch

from bootleg_training.data.order import sample_indices
from bootleg_training.engine.shards import whole
from bootleg_training.health.figures import Health, measure
from bootleg_training.health.rules import NOT_FINITE
from bootleg_training.health.verdict import verdict
from bootleg_training.probes.encoders import untrained
from bootleg_training.probes.features import mean_patch_features
from bootleg_training.probes.knn import knn_accuracy

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from bootleg_bundle.preprocess import PreprocessSpec
    from bootleg_training.config import RunConfig
    from bootleg_training.data.pack import Pack
    from bootleg_training.objective import Bootleg
    from bootleg_training.track.runlog import RunLog
    from bootleg_training.vit import Encoder

IMAGES = 512
"""Images whose spectrum is measured: RankMe is within 3 % of that of 5,400; nano ones take 2 s of a core."""

KNN_IMAGES = 6000
"""Images of a k-NN check: enough to tell two points apart, few enough to be forgotten beside 1,000 steps."""

RECENT = 50
"""Log lines that the verdict reads."""

TWIN = "random_init"
TEACHER = "teacher"


class Monitor:
    """Health checks of one run.

    Images are a fixed part of the pack. Training sees them too: there are no labels in it to overfit to, and the k-NN
    check keeps its queries out of its own bank.

    Attributes:
        sound: whether the last check found finite figures only.
    """

    def __init__(self, log: RunLog, pack: Pack, spec: PreprocessSpec, config: RunConfig) -> None:
        layers = config.resolved().target.layers
        assert layers is not None
        self._log, self._pack, self._spec, self._config, self._layers = log, pack, spec, config, layers
        count = min(IMAGES, len(pack.images))
        self._images = np.sort(sample_indices(len(pack.images), config.seed + 1, 0, count))
        self._start: Health | None = None
        self.sound = True

    def start(self, model: Bootleg) -> str:
        """Measure the untrained twin; and the teacher, too, where the run begins from trained weights."""
        twin = self._twin(model)
        trained = [not torch.equal(a, whole(b).cpu()) for a, b in _pairs(twin, model.teacher)]
        self._start = self._measure(0, twin.to(_device(model)), twin)
        self._log.write({**self._start.record(), "encoder": TWIN})
        line = f"step 0: untrained {_line(self._start, None)}"
        return f"{line}\n{self.check(0, model)}" if any(trained) else line

    def check(self, done: int, model: Bootleg) -> str:
        """Measure the teacher after ``done`` steps, record it, and return what to print: figures, then the verdict."""
        start = self._untrained(model)
        now = self._measure(done, model.teacher, model.student)
        recent = [record for record in self._log.records if "loss" in record][-RECENT:]
        says = verdict(now, start, recent, done=done / self._config.steps)
        self.sound = says.rule != NOT_FINITE
        self._log.write(
            {**now.record(), "encoder": TEACHER, "verdict": says.level, "rule": says.rule, "why": says.reason}
        )
        return f"step {done}: teacher {_line(now, start)}\n{says}"

    def _untrained(self, model: Bootleg) -> Health:
        """The twin's figures: measured at the start, found in a resumed run's record, or measured now."""
        if self._start is None:
            found = [record for record in self._log.records if record.get("encoder") == TWIN]
            twin = None if found else self._twin(model).to(_device(model))
            self._start = Health.of(found[0]) if twin is None else self._measure(0, twin, twin)
        return self._start

    def _twin(self, model: Bootleg) -> Encoder:
        """The encoder that the run's seed gives, on the CPU."""
        return untrained(model.teacher.config, self._config.seed)

    def _measure(self, step: int, teacher: Encoder, student: Encoder) -> Health:
        pack, spec = self._pack, self._spec
        health = measure(step, teacher, student, self._layers, pack.images[self._images], spec)
        if pack.labels is None:
            return health
        bank, query = _split(pack, self._config.seed)
        precision = self._config.precision
        x, q = (mean_patch_features(teacher, pack.images[i], spec, precision=precision) for i in (bank, query))
        y, answers = (torch.from_numpy(pack.labels[i]) for i in (bank, query))
        return replace(health, knn=knn_accuracy(x, y, q, answers), knn_queries=len(query))


def _split(pack: Pack, seed: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """A fixed bank, and the tenth of the images that queries it."""
    count = min(KNN_IMAGES, len(pack.images))
    chosen = np.sort(sample_indices(len(pack.images), seed + 1, 0, count))
    query = np.arange(count) % 10 == 0
    return chosen[~query], chosen[query]


def _pairs(twin: Encoder, teacher: Encoder) -> list[tuple[torch.Tensor, torch.Tensor]]:
    return list(zip(twin.parameters(), teacher.parameters(), strict=True))


def _device(model: Bootleg) -> torch.device:
    return next(model.teacher.parameters()).device


def _line(now: Health, start: Health | None) -> str:
    """The figures in words, those of the twin in brackets; ``start`` is None for the twin itself."""
    twin = start or Health(0)
    parts = [
        f"RankMe {_beside(now.rank_me, twin.rank_me, '.1f')}",
        f"alpha-ReQ {_beside(now.alpha_req, twin.alpha_req, '.2f')}",
        f"cosine {_beside(now.cosine, twin.cosine, '.3f')}",
        f"target std by layer {' '.join(f'{std:.2f}' for std in now.token_std_layers)}",
    ]
    if now.knn is not None:
        parts.insert(0, f"k-NN % {_beside(100 * now.knn, None if twin.knn is None else 100 * twin.knn, '.1f')}")
    if start is not None:
        parts.append(f"student-teacher cosine {' '.join(f'{cosine:.2f}' for cosine in now.student_layers)}")
    return ", ".join(parts)


def _beside(value: float | None, untrained: float | None, form: str) -> str:
    return f"{value:{form}}" + ("" if untrained is None else f" ({untrained:{form}})")
