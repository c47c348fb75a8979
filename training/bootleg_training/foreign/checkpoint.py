"""A foreign encoder as an ordinary checkpoint, for ``probe``, ``export`` and ``train --init``.

``bootleg import-weights`` calls it. It never claims a run: the provenance says whose weights they are.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pydantic import ValidationError

from bootleg_bundle.bundle import file_sha256
from bootleg_bundle.errors import CheckpointError, first_fault
from bootleg_bundle.manifest import Provenance
from bootleg_bundle.preprocess import PreprocessSpec
from bootleg_training import provenance
from bootleg_training.checkpoint import weights_sha256, write_checkpoint
from bootleg_training.config import RunConfig, default_layers
from bootleg_training.foreign.convert import customary_heads, read_foreign
from bootleg_training.foreign.layouts import LAYOUTS

if TYPE_CHECKING:
    from pathlib import Path

    from bootleg_training.foreign.convert import Foreign

UNKNOWN = "not said by the file"


def import_weights(
    file: Path, out: Path, *, layout: str = "auto", heads: int | None = None, image_size: int | None = None
) -> Foreign:
    """Convert ``file`` and write the checkpoint ``out``: the encoder alone, without student and predictor.

    ``run`` in its ``config.json`` holds the encoder's shape and otherwise what a run would begin with;
    the provenance states 0 steps. Preprocessing is ours, with ImageNet's mean and deviation, which all
    three projects use.

    Args:
        file: weights of another project.
        out: must not exist.
        layout: see :func:`read_foreign`, as ``heads`` and ``image_size``.
        heads: attention heads.
        image_size: pixels.

    Returns:
        What was read.

    Raises:
        CheckpointError: see :func:`read_foreign`; ``out`` exists; or no run can have such an encoder.
    """
    if out.exists():
        raise CheckpointError(f"{out} exists already")
    read = read_foreign(file, layout=layout, heads=heads, image_size=image_size)
    size = read.config.image_size
    source = Provenance(
        method=f"{LAYOUTS[read.layout].method} elsewhere (imported from a file with SHA-256 {file_sha256(file)})",
        dataset=f"data {UNKNOWN}",
        dataset_fingerprint="unknown",
        steps=0,
        images_seen=0,
        training_seconds=0.0,
        hardware=f"hardware {UNKNOWN}",
        commit=provenance.commit(),
        checkpoint_sha256=weights_sha256(read.weights),
        versions=provenance.versions(),
    )
    try:
        fields: dict[str, object] = {
            "encoder": read.config,
            "target_layers": default_layers(read.config.depth),
            "preprocess": PreprocessSpec(height=size, width=size),
            "run": RunConfig(name=f"imported-{read.layout}", encoder=read.config).resolved(),
            "provenance": source,
            "attention_heads_stated": heads is not None and heads != customary_heads(read.config.width),
        }
    except ValidationError as error:
        _, reason = first_fault(error)
        raise CheckpointError(f"{file} holds an encoder that no run can have: {reason}") from error
    write_checkpoint(out, {"encoder": read.weights}, fields)
    return read
