"""The encoders that a probe compares: a checkpoint's teacher or student, and the same shape before any training."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import torch
from safetensors.torch import load_file

from bootleg_bundle.errors import CheckpointError
from bootleg_training.checkpoint import STUDENT_NAME, load_encoder
from bootleg_training.vit import Encoder

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from bootleg_training.checkpoint import CheckpointConfig
    from bootleg_training.config import EncoderConfig

Which = Literal["teacher", "student"]
TWIN = "twin"


@dataclass(frozen=True)
class Comparison:
    """Which encoders are compared, and how their features come about.

    Attributes:
        which: encoders of the checkpoint; the untrained twin is always beside them.
        precision: of the encoder's pass, ``bf16`` or ``fp32``. bf16 moves no score by more than chance does
            (0.2 points on CIFAR-10) and is three times as fast on a CPU that has it.
        cache: folder that keeps features for the next call; None keeps nothing.
    """

    which: Sequence[Which] = ("teacher",)
    precision: str = "bf16"
    cache: Path | None = None


DEFAULTS = Comparison()


def load_compared(path: Path, which: Sequence[Which]) -> tuple[dict[str, Encoder], CheckpointConfig]:
    """Load a checkpoint's encoders by name, and their untrained twin as ``TWIN``.

    Raises:
        CheckpointError: see :func:`load_which`.
    """
    assert which, "name at least one encoder"
    loaded = {name: load_which(path, name) for name in which}
    config = next(iter(loaded.values()))[1]
    encoders: dict[str, Encoder] = {name: encoder for name, (encoder, _) in loaded.items()}
    return encoders | {TWIN: untrained_twin(config)}, config


def suffix(name: str) -> str:
    """What a probe's name ends in: nothing for the teacher, which is the encoder to use."""
    return "" if name == "teacher" else f"-{name}"


def load_which(path: Path, which: Which) -> tuple[Encoder, CheckpointConfig]:
    """Load one of a checkpoint's two encoders, in evaluation mode, on the CPU.

    Raises:
        CheckpointError: the checkpoint is not whole, or holds no student.
    """
    encoder, config = load_encoder(path)
    if which == "teacher":
        return encoder, config
    if STUDENT_NAME not in config.files:
        raise CheckpointError(f"{path} holds no {STUDENT_NAME}: only its teacher can be probed")
    try:
        encoder.load_state_dict(load_file(path / STUDENT_NAME))
    except RuntimeError as error:
        raise CheckpointError(f"{path / STUDENT_NAME} does not fit the encoder's architecture") from error
    return encoder, config


def untrained_twin(config: CheckpointConfig) -> Encoder:
    """An encoder of the checkpoint's shape, initialised by its run's seed."""
    return untrained(config.encoder, config.run.seed)


def untrained(shape: EncoderConfig, seed: int) -> Encoder:
    """The encoder that a run begins with, on the CPU; the caller's random states are kept."""
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)  # and no other device's, which would not be put back
        return Encoder(shape).eval()
