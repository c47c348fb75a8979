"""Where made-up weights come from."""

from __future__ import annotations

from typing import Any

from bootleg_bundle.manifest import Provenance


def made_up(**changes: Any) -> Provenance:
    """A provenance that says nothing, but for ``changes``."""
    fields = {
        "method": "none",
        "dataset": "none",
        "dataset_fingerprint": "none",
        "steps": 0,
        "images_seen": 0,
        "training_seconds": 0.0,
        "hardware": "none",
        "commit": "none",
        "checkpoint_sha256": "0" * 64,
        "versions": {},
    }
    return Provenance(**{**fields, **changes})
