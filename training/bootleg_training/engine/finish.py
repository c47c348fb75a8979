"""The end of a run: its checkpoint, with where it came from."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from bootleg_bundle.errors import CheckpointError
from bootleg_bundle.manifest import Provenance
from bootleg_training import checkpoint
from bootleg_training.engine.shards import whole
from bootleg_training.method import method_of

if TYPE_CHECKING:
    from pathlib import Path

    from bootleg_bundle.preprocess import PreprocessSpec
    from bootleg_training.config import RunConfig
    from bootleg_training.engine.progress import Progress
    from bootleg_training.engine.trainer import Trainer


def write_run_checkpoint(
    target: Path, trainer: Trainer, spec: PreprocessSpec, began: dict[str, Any], progress: Progress
) -> Path:
    """Write the checkpoint of a run as it stands, unless it is there; every process must call.

    One of fewer steps, which the run had before it was made longer, is kept as ``checkpoint-STEPS``.

    Args:
        target: the checkpoint's directory.
        trainer: of the run.
        spec: what turns images into the encoder's input.
        began: what the run began with: ``began.json``.
        progress: how far it is.

    Returns:
        ``target``.

    Raises:
        CheckpointError: the checkpoint that is there is damaged.
    """
    config, model = trainer.config, trainer.model
    parts = {"encoder": model.teacher, "student": model.student, "predictor": model.predictor}
    weights = {role: {name: whole(p) for name, p in part.named_parameters()} for role, part in parts.items()}
    if trainer.world.leads and not _is_there(target, progress):
        source = Provenance(
            method=_method(config),
            dataset=began["data"]["name"],
            dataset_fingerprint=began["data"]["fingerprint"],
            steps=progress.step,
            images_seen=progress.images,
            training_seconds=round(progress.seconds, 1),
            hardware=began["hardware"],
            commit=began["commit"],
            checkpoint_sha256=checkpoint.weights_sha256(weights["encoder"]),
            versions=began["versions"],
            ancestors=began.get("ancestors", ()),
        )
        fields: dict[str, object] = {
            "encoder": config.encoder,
            "target_layers": config.target.layers,
            "preprocess": spec,
            "run": config,
            "provenance": source,
        }
        checkpoint.write_checkpoint(target, weights, fields)
    trainer.world.wait()
    return target


def _method(config: RunConfig) -> str:
    """Bootleg by its paper; whatever else was asked of the same loop by its own name."""
    name = method_of(config)
    return f"{name} (arXiv 2603.15553)" if name.startswith("Bootleg") else f"{name}, with the code of Bootleg"


def _is_there(target: Path, progress: Progress) -> bool:
    """Whether this very checkpoint is written already; another one of the run is moved aside."""
    if not target.exists():
        return False
    steps = checkpoint.read_config(target).provenance.steps
    if steps == progress.step:
        return True
    aside = target.with_name(f"{target.name}-{steps:09d}")
    if aside.exists():
        raise CheckpointError(f"{aside} exists already: move it or {target} away; the run's state is saved")
    target.rename(aside)
    return False
