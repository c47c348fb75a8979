"""Continued pretraining: a run's first weights from a checkpoint instead of from chance.

The loop calls :func:`initialise_from` when ``--init`` names a checkpoint and there is no state to
resume; :func:`continued` says how to go on from there. Nothing is ever loaded by halves: everything is
read and compared before the first weight changes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file

from bootleg_bundle.errors import CheckpointError
from bootleg_training.checkpoint import ENCODER_NAME, PREDICTOR_NAME, STUDENT_NAME, read_config
from bootleg_training.config import EncoderConfig
from bootleg_training.engine.shards import like
from bootleg_training.vit import Block, resize_positions

if TYPE_CHECKING:
    from pathlib import Path

    from torch import Tensor, nn

    from bootleg_training.checkpoint import CheckpointConfig
    from bootleg_training.config import RunConfig
    from bootleg_training.objective import Bootleg

    State = dict[str, Tensor]

POSITIONS = "positions_ND"
HEAD = "head."

MEANING = ("layers", "source", "tap", "final_norm", "normalise")
"""Settings of the targets that decide what the predictor's output means; the kind of loss is not among them."""

LR_SHARE = 0.2
WARMUP = 0.02
HORIZON = 10


def initialise_from(model: Bootleg, path: Path, *, allow: frozenset[str] = frozenset()) -> list[str]:
    """Load student, predictor and teacher from a checkpoint.

    A checkpoint without student gives its encoder, the teacher, to both; without predictor, the model's own,
    fresh one stays. Another image size than the checkpoint's is no fault: a fixed position table is computed
    for the new grid, a learned one is resampled.

    Args:
        model: freshly built, whole or sharded.
        path: the checkpoint's directory.
        allow: with ``predictor`` among them, a predictor of another shape is left fresh, and of one that was
            trained for other targets all but the head is loaded.

    Returns:
        What was done, a line each for the log.

    Raises:
        CheckpointError: not a checkpoint; another encoder; or a predictor of another shape or for other targets that
            is not allowed to be fresh. The model is unchanged.
    """
    saved = read_config(path)
    _compare_encoders(saved.encoder, model.student.config)
    source = saved.provenance
    notes = [f"begins with {path}: {source.method}, {source.steps:,} steps, {source.images_seen:,} images seen"]
    grid = model.student.config.grid
    teacher = _encoder(path / ENCODER_NAME, saved.encoder, grid)
    student = _encoder(path / STUDENT_NAME, saved.encoder, grid) if STUDENT_NAME in saved.files else teacher
    if student is teacher:
        notes.append("it has no student: ours begins as the teacher")
    predictor = _predictor(path, saved, model, allow, notes)
    _check(teacher, model.teacher, ENCODER_NAME)
    _check(student, model.student, STUDENT_NAME)
    ours, theirs = model.student.config, saved.encoder
    if ours.image_size != theirs.image_size:
        how = "computed for the new grid" if ours.positions == "sincos" else "resampled bicubically"
        notes.append(f"image_size was {theirs.image_size}, now {ours.image_size}: positions are {how}")
    with torch.no_grad():
        for part, state in ((model.teacher, teacher), (model.student, student), (model.predictor, predictor)):
            for name, parameter in part.named_parameters():
                if name in state:
                    parameter.copy_(like(state[name], parameter))
    return notes


def continued(config: RunConfig) -> RunConfig:
    """The same settings for a run that goes on from trained weights: less of everything that forgets.

    Inferred, not tuned:

    - a fifth of the peak learning rate: at the full peak the first run's last, finest steps are undone before anything
      is learnt, while its final rate of nearly 0 would learn nothing. Continual pretraining of language models
      finds the same trade: a higher peak adapts more and forgets more (Gupta et al., 2023, arXiv 2308.04014);
    - 2 % of warm-up, if it was more: weights are no longer random, and only AdamW's second moments have to be filled,
      some 40 steps at beta 0.95;
    - a teacher with ten times the horizon from the start: it is already better than the student will be in
      its first steps at a new rate and with, perhaps, a fresh predictor; a fast teacher would follow it down.

    Args:
        config: settings of a run from scratch; set its length (``images``) for the new data.

    Returns:
        The settings, resolved, with another ``optim``.
    """
    config = config.resolved()
    optim = config.optim
    start = optim.ema_start
    assert start is not None
    slow = max(start, min(optim.ema_end, 1 - (1 - start) / HORIZON))
    changes = {"base_lr": LR_SHARE * optim.base_lr, "warmup": min(WARMUP, optim.warmup), "ema_start": slow}
    return config.model_copy(update={"optim": optim.model_copy(update=changes)})


def _compare_encoders(theirs: EncoderConfig, ours: EncoderConfig) -> None:
    fields = [name for name in EncoderConfig.model_fields if name != "image_size"]
    other = [name for name in fields if getattr(theirs, name) != getattr(ours, name)]
    if other:
        listed = "; ".join(f"encoder.{n} is {getattr(theirs, n)} there, {getattr(ours, n)} here" for n in other)
        raise CheckpointError(f"the checkpoint to begin from has another encoder: {listed}")


def _encoder(file: Path, theirs: EncoderConfig, grid: int) -> State:
    """An encoder's weights, learned positions resampled to our grid."""
    state = _read(file)
    if POSITIONS in state and state[POSITIONS].shape == (theirs.patches, theirs.width):
        state[POSITIONS] = resize_positions(state[POSITIONS], grid)
    return state


def _predictor(path: Path, saved: CheckpointConfig, model: Bootleg, allow: frozenset[str], notes: list[str]) -> State:
    """What of the checkpoint's predictor is loaded: all of it, all but the head, or nothing."""
    if PREDICTOR_NAME not in saved.files:
        notes.append("it has no predictor: ours is fresh, so the loss begins as high as from scratch")
        return {}
    run = saved.run.resolved()
    other_shape = _differences(
        {name: getattr(run.predictor, name) for name in ("width", "depth", "heads")}, _shape(model), "predictor"
    )
    theirs = {name: getattr(run.target, name) for name in MEANING} | {"layers": saved.target_layers}
    other_targets = _differences(theirs, {name: getattr(model.config, name) for name in MEANING}, "target")
    if (other_shape or other_targets) and "predictor" not in allow:
        raise CheckpointError(
            f"the checkpoint's predictor does not fit this run: {other_shape or other_targets}. "
            "Set it as it was there, or allow `predictor` to be fresh"
        )
    if other_shape:
        notes.append(f"the predictor is fresh: {other_shape}")
        return {}
    state = _read(path / PREDICTOR_NAME)
    if other_targets:
        notes.append(f"the predictor's head is fresh: {other_targets}")
        state = {name: tensor for name, tensor in state.items() if not name.startswith(HEAD)}
    _check(state, model.predictor, PREDICTOR_NAME, but=HEAD if other_targets else None)
    return state


def _shape(model: Bootleg) -> dict[str, object]:
    blocks = model.predictor.blocks
    assert isinstance(blocks[0], Block)
    return {"width": model.predictor.embed.out_features, "depth": len(blocks), "heads": blocks[0].heads}


def _differences(theirs: dict[str, object], ours: dict[str, object], section: str) -> str:
    other = [name for name in ours if theirs[name] != ours[name]]
    return "; ".join(f"{section}.{name} is {theirs[name]} there, {ours[name]} here" for name in other)


def _read(file: Path) -> State:
    try:
        return load_file(file)
    except SafetensorError as error:
        raise CheckpointError(f"{file} is no safetensors file") from error


def _check(state: State, part: nn.Module, file: str, *, but: str | None = None) -> None:
    """Refuse weights that are not exactly those of ``part``, less the names that begin with ``but``."""
    named = part.named_parameters()
    wanted = {name: tuple(p.shape) for name, p in named if but is None or not name.startswith(but)}
    found = {name: tuple(tensor.shape) for name, tensor in state.items()}
    if found != wanted:
        wrong = sorted(name for name in wanted.keys() | found.keys() if wanted.get(name) != found.get(name))
        raise CheckpointError(
            f"{file} does not fit the architecture that its checkpoint states: {wrong[0]!r} is "
            f"{found.get(wrong[0], 'missing')}, not {wanted.get(wrong[0], 'expected')}"
        )
