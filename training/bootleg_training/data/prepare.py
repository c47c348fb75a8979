"""From a source to a pack: every image verified, resized and written once, in one pass.

``bootleg prepare`` calls it. What a pack is made of is held in memory by name only (some 300 bytes an image);
pixels stream to the shards. Until it is whole, a pack lies beside its place, in a folder that no reader opens.
"""

from __future__ import annotations

import hashlib
import os
import shutil
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import islice
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from bootleg_bundle.cores import usable_cores
from bootleg_bundle.errors import DataError
from bootleg_bundle.preprocess import PreprocessSpec
from bootleg_bundle.sources.base import numbered_labels
from bootleg_training.data.ahead import ahead
from bootleg_training.data.decode import MAX_CORRUPT, load
from bootleg_training.data.pack import FORMAT_VERSION, INDEX_NAME, PackIndex
from bootleg_training.data.recommend import recommend
from bootleg_training.data.shards import SHARD_BYTES, ShardWriter, rows_per_shard
from bootleg_training.data.statistics import histogram, mean_and_std

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from pathlib import Path

    from numpy.typing import NDArray

    from bootleg_bundle.sources import Source

    Progress = Callable[[Iterable[int], int], Iterable[int]]


NO_PIXELS = np.zeros((3, 256), np.int64)


class Options(NamedTuple):
    """How to prepare.

    Attributes:
        drop_duplicates: leave out all but the first of byte-identical images.
        max_corrupt: share of the images that may be corrupt.
        shard_bytes: size of a shard.
    """

    drop_duplicates: bool = False
    max_corrupt: float = MAX_CORRUPT
    shard_bytes: int = SHARD_BYTES


@dataclass
class _Tally:
    """What a pass over the source has found so far."""

    kept: list[int] = field(default_factory=list)
    skipped: dict[str, str] = field(default_factory=dict)
    first: dict[bytes, int] = field(default_factory=dict)  # by content
    twins: dict[int, list[int]] = field(default_factory=dict)  # by the first of them
    counts: NDArray[np.int64] = field(default_factory=NO_PIXELS.copy)
    digest: hashlib._Hash = field(default_factory=hashlib.sha256)


def write_pack(
    source: Source,
    out: Path,
    side: int,
    *,
    name: str | None = None,
    options: Options = Options(),  # noqa: B008  # frozen
    progress: Progress,
) -> PackIndex:
    """Verify, resize and pack every image of a source.

    Args:
        source: of :func:`~bootleg_bundle.sources.open_source`.
        out: the pack to create; must not exist.
        side: pixels; the centre square is resized to it.
        name: for reports; the source's when None.
        options: how strict to be.
        progress: wraps the iteration (numbers of the images, how many).

    Returns:
        What was written to ``pack.json``.

    Raises:
        DataError: too many corrupt images, none that is not, or ``out`` exists.
    """
    refuse_existing(out)
    unfinished = out.with_name(out.name + ".partial")
    shutil.rmtree(unfinished, ignore_errors=True)
    unfinished.mkdir(parents=True)
    spec = PreprocessSpec(height=side, width=side)
    rows = rows_per_shard(len(source), side, options.shard_bytes)
    try:
        with ShardWriter(unfinished, side, rows) as writer:
            tally = _pass(source, writer, spec, options, progress)
        index = _index(source, tally, spec, rows, name or source.name, dropped=options.drop_duplicates)
        with (unfinished / INDEX_NAME).open("w", encoding="utf-8") as file:
            file.write(index.model_dump_json())
            file.flush()
            os.fsync(file.fileno())
        unfinished.rename(out)
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)
    return index


def refuse_existing(out: Path) -> None:
    """Never write over something.

    Raises:
        DataError: ``out`` exists.
    """
    if out.exists():
        raise DataError(f"{out} exists already: remove it or choose another --out")


def _pass(source: Source, writer: ShardWriter, spec: PreprocessSpec, options: Options, progress: Progress) -> _Tally:
    """Read every image once, in threads, and write those that are kept, in order."""

    def examine(number: int) -> tuple[NDArray[np.uint8] | str, bytes, NDArray[np.int64]]:
        picture, digest = load(source, number, spec)
        return picture, digest, NO_PIXELS if isinstance(picture, str) else histogram(picture)

    tally, total, workers = _Tally(), len(source), usable_cores()
    with ThreadPoolExecutor(workers, "prepare") as pool:
        examined = ahead(pool, examine, range(total), depth=4 * workers)
        for number, (picture, digest, counts) in zip(progress(range(total), total), examined, strict=True):
            if isinstance(picture, str):
                tally.skipped[source.file(number)] = picture
                _check_corrupt(tally, number + 1, source, options.max_corrupt)
                continue
            first = tally.first.setdefault(digest, number)
            if first != number:
                tally.twins.setdefault(first, [first]).append(number)
                if options.drop_duplicates:
                    continue
            writer.append(picture)
            tally.counts += counts
            tally.digest.update(source.file(number).encode() + b"\0" + digest)
            tally.kept.append(number)
    if not tally.kept:
        raise DataError(f"none of the {total:,} images of {source.name} can be decoded; {_first(tally.skipped)}")
    return tally


def _check_corrupt(tally: _Tally, seen: int, source: Source, share: float) -> None:
    """End as soon as the whole set must be over the ceiling."""
    corrupt, total = len(tally.skipped), len(source)
    if corrupt / total > share:
        raise DataError(
            f"{corrupt:,} of the first {seen:,} images cannot be decoded; of all {total:,}, --max-corrupt {share:g} "
            f"allows {int(share * total + 1e-9):,}. {_first(tally.skipped)}"
        )


def _first(skipped: dict[str, str], count: int = 3) -> str:
    return "; ".join(f"{file}: {reason}" for file, reason in islice(skipped.items(), count))


def _index(source: Source, tally: _Tally, spec: PreprocessSpec, rows: int, name: str, *, dropped: bool) -> PackIndex:
    labels, classes = numbered_labels(source, tally.kept)
    mean, std = mean_and_std(tally.counts)
    images, side = len(tally.kept), spec.height
    return PackIndex(
        format_version=FORMAT_VERSION,
        name=name,
        fingerprint=tally.digest.hexdigest(),
        preprocess=spec,
        classes=classes,
        labels=None if labels is None else labels.tolist(),
        files=[source.file(number) for number in tally.kept],
        skipped=tally.skipped,
        rows_per_shard=rows,
        duplicates=[[source.file(number) for number in group] for group in tally.twins.values()],
        duplicates_dropped=dropped,
        mean=mean,
        std=std,
        presets={"cuda": recommend(images, side, cuda=True), "cpu": recommend(images, side, cuda=False)},
    )
