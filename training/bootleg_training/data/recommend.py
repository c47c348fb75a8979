"""Which preset suits a data set: a table of rules, the first that holds.

Preparation prints and stores the answer; nothing acts on it. The bounds are judgement: a model gets an order of
magnitude fewer images than its published training sets have, and no preset repeats an image many thousand times.
"""

from __future__ import annotations

from typing import NamedTuple

from bootleg_training.presets import PRESETS


class Rule(NamedTuple):
    """A preset and the least that it wants: images, their side in pixels, a CUDA device or not."""

    preset: str
    images: int
    side: int
    cuda: bool


RULES = (
    Rule("large", 1_000_000, 224, cuda=True),
    Rule("base", 300_000, 224, cuda=True),
    Rule("small", 50_000, 224, cuda=True),
    Rule("tiny", 10_000, 64, cuda=True),
    Rule("tiny-cpu", 5_000, 64, cuda=False),
    Rule("nano", 1_000, 32, cuda=False),
    Rule("cpu-smoke", 128, 32, cuda=False),
)


def recommend(images: int, side: int, *, cuda: bool) -> str | None:
    """The preset for so many images of this size; None where none takes so few or such small ones."""
    for rule in RULES:
        enough = images >= rule.images and side >= rule.side
        if enough and (cuda or not rule.cuda) and rule.preset in PRESETS:
            return rule.preset
    return None
