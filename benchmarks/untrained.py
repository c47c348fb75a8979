"""A bundle of a ViT-S/16 at 224 px with random weights: what the serving benchmark serves beside the shipped one.

    python -m benchmarks.untrained FOLDER

A program of its own, so that what measures has no torch in its process.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

from benchmarks.export import write_random
from bootleg_export.build import build_bundle

if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as scratch:
        build_bundle(write_random(Path(scratch, "checkpoint")), Path(sys.argv[1]), name="vit-s16-224-random")
