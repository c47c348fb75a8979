"""The beginning of a run: what is refused before anything is computed, and the record of what it began with.

The loop calls it, and ``--plan`` shares its refusals. ``began.json`` is written once and then kept: it says with which
data, code and machine the run's first step was made.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from bootleg_bundle.errors import ConfigError, DataError
from bootleg_training import provenance
from bootleg_training.checkpoint import ENCODER_NAME, parse_config
from bootleg_training.data.pack import INDEX_NAME

if TYPE_CHECKING:
    from pathlib import Path

    import torch

    from bootleg_training.config import RunConfig
    from bootleg_training.data.pack import Pack

BEGAN, CONFIG = "began.json", "config.json"
OTHER_FOLDERS = {INDEX_NAME: "a pack", ENCODER_NAME: "a checkpoint", "manifest.json": "a bundle"}
"""Files that say what a folder is; a run would be written over it."""


def check_pack(config: RunConfig, pack: Pack) -> None:
    """Refuse images that cannot make a batch of this run.

    Raises:
        DataError: fewer than a batch or than two, or smaller than the encoder's input.
    """
    if len(pack.images) < 2:
        raise DataError(f"the pack has {len(pack.images)} image: a run needs 2 at least, to tell them apart")
    if len(pack.images) < config.batch_size:
        raise DataError(f"batch_size is {config.batch_size}, but the pack has {len(pack.images)} images only")
    if pack.side < config.encoder.image_size:
        raise DataError(
            f"the pack's images have {pack.side} pixels a side, the encoder takes {config.encoder.image_size}: "
            f"prepare the data with --size {config.encoder.image_size}"
        )


def check_folder(out: Path, data: Path | None) -> None:
    """Refuse to write a run into something else.

    Raises:
        ConfigError: ``out`` is a pack, a checkpoint, a bundle, or where the images are.
    """
    for name, what in OTHER_FOLDERS.items():
        if (out / name).is_file():
            raise ConfigError(f"--out {out} is {what}: choose another folder for the run")
    if data is not None and data.exists() and out.exists() and out.samefile(data):
        raise ConfigError(f"--out {out} is where the images are: choose another folder for the run")


def describe(config: RunConfig, hardware: str, processes: int) -> str:
    """A run in one line: its name, shape, length and place; the run and its plan begin with it."""
    shape = f"{config.encoder.label} at {config.encoder.image_size} px"
    length = f"{config.steps:,} steps of {config.batch_size}"
    place = hardware if processes == 1 else f"{processes} processes, each on {hardware}"
    return f"{config.name}: {shape}, {length} on {place}"


def beginning(
    pack: Pack, device: torch.device, *, data_path: Path | None, init: Path | None, processes: int
) -> dict[str, Any]:
    """What a run begins with: data, code and machine."""
    where = {} if data_path is None else {"path": str(data_path.resolve())}
    return {
        "data": _data(pack) | where,
        "init": None if init is None else init.name,
        "ancestors": [] if init is None else [a.model_dump() for a in parse_config(init).provenance.lineage],
        "commit": provenance.commit(),
        "hardware": provenance.hardware(device),
        "processes": processes,
        "versions": provenance.versions(),
    }


def read_beginning(out: Path, pack: Pack) -> dict[str, Any] | None:
    """The record of a run that goes on; None where there is none.

    Raises:
        DataError: it is damaged, or names other images than ``pack``.
    """
    path = out / BEGAN
    if not path.is_file():
        return None
    try:
        began: dict[str, Any] = json.loads(path.read_bytes())
        known = {key: began["data"][key] for key in _data(pack)}
        whole = {"commit", "hardware", "versions"} <= began.keys()
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise _damaged(path) from error
    if not whole:
        raise _damaged(path)
    if known != _data(pack):
        raise DataError(
            f"the run began with the pack {known['name']}, fingerprint {str(known['fingerprint'])[:12]}; this one is "
            f"{pack.name}, {pack.fingerprint[:12]}"
        )
    return began


def write_beginning(out: Path, began: dict[str, Any], config: RunConfig) -> None:
    """Write ``began.json`` and ``config.json``."""
    for name, fields in ((BEGAN, began), (CONFIG, config.model_dump(mode="json"))):
        partial = out / f"{name}.partial"
        partial.write_text(json.dumps(fields, indent=2) + "\n", encoding="utf-8")
        partial.replace(out / name)


def _data(pack: Pack) -> dict[str, Any]:
    return {"name": pack.name, "images": len(pack.images), "side": pack.side, "fingerprint": pack.fingerprint}


def _damaged(path: Path) -> DataError:
    return DataError(f"{path} is damaged; without that file the run goes on, and is taken to have begun today")
