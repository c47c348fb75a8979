"""Is it learning? The run's record ``metrics.jsonl``, and the k-NN check against an untrained twin."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Self

import numpy as np
import torch

from bootleg_training.data.order import sample_indices
from bootleg_training.health.spectrum import rank_me
from bootleg_training.probes.features import mean_patch_features
from bootleg_training.probes.knn import knn_accuracy

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray
    from torch import Tensor

    from bootleg_bundle.preprocess import PreprocessSpec
    from bootleg_training.config import RunConfig
    from bootleg_training.data.pack import Pack
    from bootleg_training.engine.schedule import StepRates
    from bootleg_training.objective import Loss
    from bootleg_training.vit import Encoder

IMAGES = 6000
"""Images of a k-NN check: enough to tell two points apart, few enough to be forgotten beside 1,000 steps."""


class RunLog:
    """One JSON object a line. A resumed run continues the file behind the step it resumes from."""

    def __init__(self, path: Path, *, from_step: int = 0) -> None:
        old = path.read_text(encoding="utf-8").splitlines(keepends=True) if path.is_file() else []
        self._file = path.open("w", encoding="utf-8")
        self._file.writelines(line for line in old if line.endswith("\n") and json.loads(line)["step"] <= from_step)
        self._file.flush()

    def step(self, done: int, images: int, seconds: float, rates: StepRates, measured: dict[str, Tensor]) -> str:
        """Record a step and return its note for the progress line.

        Args:
            done: steps taken.
            images: images seen.
            seconds: since the run began, interruptions left out.
            rates: of the step.
            measured: tensors by name; fetched from the device in one transfer.
        """
        flat = torch.cat([value.detach().float().reshape(-1) for value in measured.values()]).tolist()
        record: dict[str, Any] = {"step": done, "images": images, "seconds": round(seconds, 2)}
        for name, value in measured.items():
            numbers = [float(f"{number:.6g}") for number in flat[: value.numel()]]
            flat = flat[value.numel() :]
            record[name] = numbers if value.ndim else numbers[0]
        self._write({**record, **rates.__dict__})
        shares = " ".join(f"{100 * share:.0f}" for share in record["explained"])
        return f"loss {record['loss']:.3f}, explained % by layer: {shares}"

    def probe(self, done: int, which: str, knn: float, rank: float) -> str:
        """Record a k-NN check and return it as a line."""
        self._write({"step": done, "encoder": which, "knn": round(knn, 4), "rank_me": round(rank, 2)})
        return f"step {done}: {which} k-NN {100 * knn:.1f} %, RankMe {rank:.1f}"

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def _write(self, record: dict[str, Any]) -> None:
        self._file.write(json.dumps(record) + "\n")
        self._file.flush()


def measured_step(loss: Loss, grad_norm: Tensor, skipped_steps: Tensor) -> dict[str, Tensor]:
    """What a log line holds of one step."""
    return {
        "loss": loss.total,
        "grad_norm": grad_norm,
        "skipped_steps": skipped_steps,
        "loss_per_layer": loss.per_layer,
        "explained": loss.explained(),
        "target_std": loss.target_std(),
    }


def knn_check(encoder: Encoder, pack: Pack, spec: PreprocessSpec, config: RunConfig) -> tuple[float, float]:
    """k-NN accuracy and effective rank of mean patch features on a fixed part of a labelled pack."""
    assert pack.labels is not None
    bank, query = _split(pack, config.seed)
    x, q = (mean_patch_features(encoder, pack.images[i], spec, precision=config.precision) for i in (bank, query))
    y, answers = (torch.from_numpy(pack.labels[i]) for i in (bank, query))
    return knn_accuracy(x, y, q, answers), rank_me(x)


def _split(pack: Pack, seed: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """A fixed bank, and the tenth of the images that queries it."""
    count = min(IMAGES, len(pack.images))
    chosen = np.sort(sample_indices(len(pack.images), seed + 1, 0, count))
    query = np.arange(count) % 10 == 0
    return chosen[~query], chosen[query]
