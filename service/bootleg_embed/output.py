"""From a finished store to the files that were asked for. The main file is moved last: where it is, all is complete.

    OUT.npy      OUT.npy, OUT.items.jsonl, OUT.json
    OUT.parquet  OUT.parquet, OUT.json
    OUT          OUT/embeddings.npy, OUT/items.jsonl, OUT/embed.json

Every step can be repeated, so a kill in the middle of finishing costs nothing.
"""

from __future__ import annotations

import os
import shutil
from typing import TYPE_CHECKING, NamedTuple

from pydantic import ValidationError

from bootleg_bundle.errors import DataError
from bootleg_embed.journal import Identity, Journal, check_same, flush_folder, replace_file
from bootleg_embed.parquet import write_parquet
from bootleg_embed.store import ITEMS, VECTORS

if TYPE_CHECKING:
    from pathlib import Path

    from bootleg_embed.store import Store


class Layout(NamedTuple):
    """Where the finished files lie; ``items`` is None where the main file holds them."""

    main: Path
    items: Path | None
    record: Path
    partial: Path


def layout(out: Path) -> Layout:
    """The files of an ``--out``."""
    partial = out.with_name(out.name + ".partial")
    if out.suffix == ".npy":
        return Layout(out, out.with_suffix(".items.jsonl"), out.with_suffix(".json"), partial)
    if out.suffix == ".parquet":
        return Layout(out, None, out.with_suffix(".json"), partial)
    return Layout(out / VECTORS, out / ITEMS, out / "embed.json", partial)


def finished(places: Layout, identity: Identity) -> Journal | None:
    """The record of a run that is complete already; None when there is none.

    Raises:
        DataError: the files are there, and another run made them.
    """
    if not places.main.exists():
        return None
    try:
        record = Journal.model_validate_json(places.record.read_bytes())
    except (FileNotFoundError, ValidationError):
        raise DataError(f"{places.main} exists already: remove it or choose another --out") from None
    check_same(places.main, record.identity, identity)
    shutil.rmtree(places.partial, ignore_errors=True)  # killed between the last move and this
    return record


def finish(store: Store, places: Layout) -> None:
    """Move a complete store to its place."""
    assert store.journal.done == store.journal.identity.images, "only a complete run is finished"
    places.main.parent.mkdir(parents=True, exist_ok=True)
    if places.items is not None:
        new = places.items.with_name(places.items.name + ".new")
        shutil.copyfile(store.folder / ITEMS, new)
        with new.open("rb") as file:
            os.fsync(file.fileno())
        new.replace(places.items)
    replace_file(places.record, store.journal.model_dump_json(indent=2).encode() + b"\n")
    made = store.folder / VECTORS if places.items is not None else write_parquet(store.folder, store.journal)
    made.replace(places.main)
    flush_folder(places.main.parent)
    store.close()
    shutil.rmtree(store.folder)
