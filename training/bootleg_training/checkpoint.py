"""The checkpoint: what training hands to export, and to another training. A directory, no pickle.

    encoder.safetensors     the EMA teacher: the encoder to use
    student.safetensors     for continued pretraining
    predictor.safetensors   for continued pretraining
    heads/NAME.safetensors  a segmentation head each, where some were trained
    config.json             architecture, preprocessing, target layers, provenance, probes, heads, hashes

Export imports this module and :mod:`bootleg_training.vit`, nothing else of this package.
"""

from __future__ import annotations

import hashlib
import json
import os
from typing import TYPE_CHECKING, Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from bootleg_bundle.bundle import file_sha256
from bootleg_bundle.errors import CheckpointError, first_fault
from bootleg_bundle.manifest import FileEntry, ModelName, Probe, Provenance
from bootleg_bundle.preprocess import PreprocessSpec
from bootleg_training.config import EncoderConfig, RunConfig
from bootleg_training.heads.config import HeadConfig
from bootleg_training.heads.model import SegmentationHead, build_head
from bootleg_training.vit import Encoder

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from torch import Tensor

CONFIG_NAME = "config.json"
ENCODER_NAME = "encoder.safetensors"
STUDENT_NAME = "student.safetensors"
PREDICTOR_NAME = "predictor.safetensors"


def head_file(name: str) -> str:
    """Where in the checkpoint a head's weights lie."""
    return f"heads/{name}.safetensors"


def head_probe(name: str) -> str:
    """What the probe record of a head is called."""
    return f"segmentation:{name}"


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
    heads: dict[ModelName, HeadConfig] = Field(default_factory=dict)
    files: dict[str, FileEntry]
    attention_heads_stated: bool = Field(
        default=False, description="a person said how many heads imported weights have, and it is not the custom"
    )

    @model_validator(mode="after")
    def _lists_what_it_names(self) -> Self:
        if ENCODER_NAME not in self.files:
            raise ValueError(f"files: {ENCODER_NAME} is not listed")
        for name in self.heads:
            if head_file(name) not in self.files:
                raise ValueError(f"files: {head_file(name)} is not listed")
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
        files[name] = _write_weights(partial / name, tensors)
    replace_config(partial, CheckpointConfig.model_validate({**config, "files": files}))
    partial.rename(path)
    flush(path.parent)


def replace_config(path: Path, config: CheckpointConfig) -> None:
    """Write a checkpoint's ``config.json``, whole or not at all."""
    partial = path / f"{CONFIG_NAME}.partial"
    text = json.dumps(config.model_dump(mode="json"), indent=2, sort_keys=True) + "\n"
    partial.write_text(text, encoding="utf-8")
    flush(partial)
    partial.replace(path / CONFIG_NAME)
    flush(path)


def write_head(path: Path, name: str, head: HeadConfig, weights: Mapping[str, Tensor], probe: Probe) -> None:
    """Put a segmentation head into a checkpoint, in place of one of the same name.

    A crash leaves a checkpoint that can be read, with the head or without it.

    Args:
        path: the checkpoint.
        name: of the head.
        head: its description.
        weights: its parameters.
        probe: its score, named by :func:`head_probe`.

    Raises:
        CheckpointError: see :func:`read_config`.
    """
    assert probe.probe == head_probe(name), f"{probe.probe} is no score of the head {name}"
    config, file = read_config(path), head_file(name)
    if name in config.heads:  # first from the list: a new file under an old hash would spoil the whole checkpoint
        config = _without_head(config, name)
        replace_config(path, config)
    (path / file).parent.mkdir(exist_ok=True)
    entry = _write_weights(path / file, weights)
    fields = {
        **dict(config),
        "heads": {**config.heads, name: head},
        "files": {**config.files, file: entry},
        "probes": (*config.probes, probe),
    }
    replace_config(path, CheckpointConfig.model_validate(fields))


def _without_head(config: CheckpointConfig, name: str) -> CheckpointConfig:
    changed = {
        "heads": {other: head for other, head in config.heads.items() if other != name},
        "files": {file: entry for file, entry in config.files.items() if file != head_file(name)},
        "probes": tuple(probe for probe in config.probes if probe.probe != head_probe(name)),
    }
    return config.model_copy(update=changed)


def _write_weights(file: Path, weights: Mapping[str, Tensor]) -> FileEntry:
    write_tensors({key: tensor.detach().cpu().contiguous() for key, tensor in weights.items()}, file)
    return FileEntry(sha256=file_sha256(file), bytes=file.stat().st_size)


def parse_config(path: Path) -> CheckpointConfig:
    """Read a checkpoint's ``config.json`` alone; what it says of the files is not looked at.

    Raises:
        CheckpointError: not a checkpoint, or a field is off.
    """
    file = path / CONFIG_NAME
    if (path / "metrics.jsonl").is_file():
        inside = path / "checkpoint"
        when = "" if inside.exists() else ", once the run is finished"
        raise CheckpointError(f"{path} is a run folder: name its checkpoint, {inside}{when}")
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


def load_head(path: Path, name: str, config: CheckpointConfig) -> SegmentationHead:
    """Build one of a checkpoint's heads, in evaluation mode, on the CPU, in float32.

    Args:
        path: the checkpoint.
        name: one of ``config.heads``.
        config: as :func:`load_encoder` or :func:`read_config` returned it, which verified the file.

    Raises:
        CheckpointError: the weights do not fit the head's description.
    """
    head = build_head(config.heads[name], config.encoder.width, len(config.target_layers))
    try:
        head.load_state_dict(load_file(path / head_file(name)))
    except RuntimeError as error:
        raise CheckpointError(f"{path / head_file(name)} does not fit its description in {CONFIG_NAME}") from error
    return head.eval()


def write_tensors(tensors: dict[str, Tensor], file: Path) -> None:
    """Write tensors on the host to a safetensors file, flushed to disk.

    Raises:
        CheckpointError: it cannot be written; says why.
    """
    try:
        save_file(tensors, file)
    except SafetensorError as error:
        reason = str(error).rpartition("I/O error: ")[2]
        raise CheckpointError(f"{file} cannot be written: {reason}") from error
    file.chmod(0o644)  # safetensors writes 0600, which a container's user could not read
    flush(file)


def flush(path: Path) -> None:
    """Make a file's content, or a directory's names, survive a crash of the machine."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
