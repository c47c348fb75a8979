"""What a run's method is called, by its targets: in its checkpoint's provenance and in the study's rows."""

from __future__ import annotations

from typing import TYPE_CHECKING

from bootleg_training.config import default_layers

if TYPE_CHECKING:
    from bootleg_training.config import RunConfig, TargetConfig

NORMALISED = {"layer": "", "instance": ", per-channel targets", "none": ", plain targets"}
"""What a method's name ends in; per token is the default."""


def method_of(run: RunConfig) -> str:
    """A run's method by its targets and, unless it is per token, their normalisation."""
    target = run.resolved().target
    return _targets(target, run.encoder.depth) + NORMALISED[target.normalise]


def _targets(target: TargetConfig, depth: int) -> str:
    """``layers a,b`` for a choice of layers that is no method's own."""
    assert target.layers is not None
    if target.source != "layers":
        return {"pixels": "pixels", "average": "data2vec-like"}[target.source]
    if target.layers == (depth,) and target.final_norm:
        return "I-JEPA"
    if target.layers == default_layers(depth) and not target.final_norm:
        return "Bootleg"
    return "layers " + ",".join(map(str, target.layers))
