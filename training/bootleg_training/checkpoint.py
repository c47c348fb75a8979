"""The checkpoint: what training hands to export, and to another training. A directory, no pickle.

    encoder.safetensors     the EMA teacher: the encoder to use
    student.safetensors     for continued pretraining
    predictor.safetensors   for continued pretraining
    config.json             architecture, preprocessing, target layers, provenance, probes, hashes

Export imports this module and :mod:`bootleg_training.vit`, nothing else of this package.
"""

from __future__ import annotations

import hashlib
import json
import os
from typing import TYPE_CHECKING, Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator
from safetensors.torch import load_file, save_file

from bootleg_bundle.bundle import file_sha256
from bootleg_bundle.errors import CheckpointError, first_fault
from bootleg_bundle.manifest import FileEntry, Probe, Provenance
from bootleg_bundle.preprocess import PreprocessSpec
from bootleg_training.config import EncoderConfig, RunConfig
from bootleg_training.vit import Encoder

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from torch import Tensor

CONFIG_NAME = "config.json"
ENCODER_NAME = "encoder.safetensors"
STUDENT_NAME = "student.safetensors"
PREDICTOR_NAME = "predictor.safetensors"

TrainingProvenance = Annotated[Provenance, Field(description="checkpoint_sha256 is that of the encoder's weights")]


class CheckpointConfig(BaseModel):
    """``config.json``."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    format_version: Literal[1] = 1
    encoder: EncoderConfig
    target_layers: tuple[int, ...]
    preprocess: PreprocessSpec
    run: RunConfig
    provenance: TrainingProvenance
    probes: tuple[Probe, ...] = ()
    files: dict[str, FileEntry]
    attention_heads_stated: bool = Field(
        default=False, description="a person said how many heads imported weights have, and it is not the custom"
    )

    @model_validator(mode="after")
    def _has_an_encoder(self) -> Self:
        if ENCODER_NAME not in self.files:
            raise ValueError(f"files: {ENCODER_NAME} is not listed")
        return self

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        if not self.target_layers or max(self.target_layers) > self.encoder.depth or min(self.target_layers) < 1:
            raise ValueError(f"target_layers {self.target_layers}: the encoder has {self.encoder.depth} blocks")
        size = self.encoder.image_size
        if (self.preprocess.height, self.preprocess.width) != (size, size):
            raise ValueError(f"preprocess: its size is not the encoder's image_size {size}")
        return self


def weights_sha256(weights: Mapping[str, Tensor]) -> str:
    """Hash tensors by name, dtype, shape and content; independent of the file that holds them."""
    digest = hashlib.sha256()
    for name in sorted(weights):
        tensor = weights[name].detach().cpu().contiguous()
        digest.update(f"{name}\0{tensor.dtype}\0{tuple(tensor.shape)}\0".encode())
        digest.update(tensor.numpy().tobytes())
    return digest.hexdigest()


def interpreted_sha256(weights_sha256: str, config: CheckpointConfig) -> str:
    """What an embedding space is named by: the weights' hash and, where no tensor and no training tells it, the heads.

    Weights that were trained belong to one number of heads; the same imported file can be read with several.
    """
    if not config.attention_heads_stated:
        return weights_sha256
    return hashlib.sha256(f"{weights_sha256}\nheads {config.encoder.heads}".encode()).hexdigest()


def write_checkpoint(path: Path, weights: Mapping[str, Mapping[str, Tensor]], config: dict[str, object]) -> None:
    """Write a checkpoint atomically: a new directory beside ``path``, flushed to disk, then renamed.

    Args:
        path: must not exist.
        weights: by role: ``encoder`` always, ``student`` and ``predictor`` for continued pretraining.
        config: the fields of :class:`CheckpointConfig` but ``files``.

    Raises:
        CheckpointError: ``path`` exists.
    """
    if path.exists():
        raise CheckpointError(f"{path} exists already")
    partial = path.with_name(path.name + ".partial")
    partial.mkdir(parents=True, exist_ok=True)
    files: dict[str, FileEntry] = {}
    for role, tensors in weights.items():
        name = f"{role}.safetensors"
        save_file({key: tensor.detach().cpu().contiguous() for key, tensor in tensors.items()}, partial / name)
        (partial / name).chmod(0o644)  # safetensors writes 0600, which a container's user could not read
        flush(partial / name)
        files[name] = FileEntry(sha256=file_sha256(partial / name), bytes=(partial / name).stat().st_size)
    model = CheckpointConfig.model_validate({**config, "files": files})
    text = json.dumps(model.model_dump(mode="json"), indent=2, sort_keys=True) + "\n"
    (partial / CONFIG_NAME).write_text(text, encoding="utf-8")
    flush(partial / CONFIG_NAME)
    partial.rename(path)
    flush(path.parent)


def parse_config(path: Path) -> CheckpointConfig:
    """Read a checkpoint's ``config.json`` alone; what it says of the files is not looked at.

    Raises:
        CheckpointError: not a checkpoint, or a field is off.
    """
    file = path / CONFIG_NAME
    if not (path / ENCODER_NAME).is_file() and (path / "checkpoint" / CONFIG_NAME).is_file():
        raise CheckpointError(f"{path} is a run folder: name its checkpoint, {path / 'checkpoint'}")
    if not file.is_file():
        raise CheckpointError(f"{path} is no checkpoint: it has no {CONFIG_NAME}")
    try:
        return CheckpointConfig.model_validate_json(file.read_bytes())
    except ValidationError as error:
        field, reason = first_fault(error)
        raise CheckpointError(f"{file}: {field}: {reason}") from error


def read_config(path: Path) -> CheckpointConfig:
    """Read and verify a checkpoint's ``config.json`` and the hash of each of its files.

    Raises:
        CheckpointError: not a checkpoint, a field is off, or a file is missing or changed.
    """
    config = parse_config(path)
    for name, entry in config.files.items():
        target = path / name
        if not target.is_file():
            raise CheckpointError(f"{target} is missing")
        if file_sha256(target) != entry.sha256:
            raise CheckpointError(f"{target} does not have the SHA-256 that {CONFIG_NAME} states")
    return config


def load_encoder(path: Path) -> tuple[Encoder, CheckpointConfig]:
    """Build the encoder of a checkpoint, in evaluation mode, on the CPU, in float32.

    Raises:
        CheckpointError: see :func:`read_config`; or the weights do not fit the architecture.
    """
    config = read_config(path)
    encoder = Encoder(config.encoder)
    try:
        encoder.load_state_dict(load_file(path / ENCODER_NAME))
    except RuntimeError as error:
        raise CheckpointError(f"{path / ENCODER_NAME} does not fit the architecture in {CONFIG_NAME}") from error
    return encoder.eval(), config


def flush(path: Path) -> None:
    """Make a file's content, or a directory's names, survive a crash of the machine."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
