"""A set of coloured blocks in three parts, and settings that learn it in seconds."""

from __future__ import annotations

from bootleg_training.heads.fit import FitSettings
from bootleg_training.heads.settings import HeadSettings, Parts
from tests.training.probes import scenery

QUICK = HeadSettings(crops=16, balances=(0.0,), fit=FitSettings(iterations=60, batch=4, rate=1e-2), precision="fp32")


def write_parts(folder, *, side=48, patch=16):
    """Train, val and test of 8, 3 and 4 pictures that no other part holds."""
    counts = {"train": 8, "val": 3, "test": 4}
    return Parts(
        *(
            scenery.write(folder / part, scenery.scenes(count, side=side, patch=patch, seed=seed))
            for seed, (part, count) in enumerate(counts.items())
        )
    )
