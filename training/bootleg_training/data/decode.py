"""Images decoded when they are wanted: training on a source that was never packed.

For a first look, or for a set too large to pack; a small model waits for the decoder (docs/training.md). Corrupt
images met on the way are quarantined: counted, logged once each, and replaced, until there are too many.
"""

from __future__ import annotations

import hashlib
import logging
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from bootleg_bundle.cores import usable_cores
from bootleg_bundle.errors import DataError, ImageError
from bootleg_bundle.images import decode
from bootleg_bundle.preprocess import PreprocessSpec, apply
from bootleg_bundle.sources import open_source
from bootleg_bundle.sources.base import LIMITS, listing_fingerprint, numbered_labels
from bootleg_training.data.images import LazyImages
from bootleg_training.data.order import sample_indices
from bootleg_training.data.pack import INDEX_NAME, Pack, open_pack

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from bootleg_bundle.sources import Source

MAX_CORRUPT = 0.05
"""Share of the images seen that may be corrupt."""
SEEN_BEFORE_JUDGING = 200

_log = logging.getLogger(__name__)


def load(source: Source, number: int, spec: PreprocessSpec) -> tuple[NDArray[np.uint8] | str, bytes]:
    """Read and decode one image.

    Returns:
        Its pixels, uint8 ``[height, width, 3]``, and the SHA-256 of its bytes; or the reason why there is none.
    """
    try:
        data = source.read(number)
        return apply(spec, decode(data, LIMITS)), hashlib.sha256(data).digest()
    except ImageError as error:
        return error.message, b""
    except OSError as error:
        return f"the file cannot be read: {error.strerror or type(error).__name__}", b""


def open_data(spec: str | Path, side: int) -> Pack:
    """Open a pack, or a source without packing it.

    The fingerprint of a source is that of its names and sizes, not of its content: reading all of it would cost
    as much as packing it. A pack's is that of its content, so the two never agree.

    Args:
        spec: a pack, or what :func:`~bootleg_bundle.sources.open_source` takes.
        side: pixels, for a source; a pack has its own.

    Raises:
        DataError: neither can be opened.
    """
    path = Path(spec)
    if str(spec) and (path / INDEX_NAME).is_file():
        return open_pack(path)
    source = open_source(spec)
    preprocess = PreprocessSpec(height=side, width=side)
    labels, classes = numbered_labels(source, range(len(source)))
    images = DecodedImages(source, preprocess)
    return Pack(images, labels, classes, listing_fingerprint(source), source.name, preprocess)


class DecodedImages(LazyImages):
    """The images of a source, decoded by a pool of threads whenever they are indexed.

    A corrupt image is replaced by another of the set, a pure function of its index (and of which images are
    corrupt), so that a resumed run sees the same pixels. Its label, if it has one, stays.

    Attributes:
        quarantined: the corrupt images met so far, by name, with the reason for each.

    Raises:
        DataError: when indexed: of the different images seen, at least ``seen_before_judging``, more than the
            share ``max_corrupt`` is corrupt.
    """

    def __init__(
        self,
        source: Source,
        spec: PreprocessSpec,
        *,
        workers: int | None = None,
        max_corrupt: float = MAX_CORRUPT,
        seen_before_judging: int = SEEN_BEFORE_JUDGING,
    ) -> None:
        assert spec.height == spec.width
        super().__init__(len(source), spec.height)
        self.quarantined: dict[str, str] = {}
        self._source, self._spec = source, spec
        self._max_corrupt = max_corrupt
        self._least = min(seen_before_judging, len(source))
        self._seen = np.zeros(len(source), bool)
        self._corrupt: set[int] = set()
        self._lock = threading.Lock()
        self._pool = ThreadPoolExecutor(workers or usable_cores(), "decode")

    def take(self, index: NDArray[np.int64]) -> NDArray[np.uint8]:
        """Decode images, each distinct one once."""
        out = np.empty((len(index), *self.shape[1:]), np.uint8)
        self._see(index)
        wanted, place = np.unique(index, return_inverse=True)
        for number, (picture, _) in enumerate(self._pool.map(self._load, wanted.tolist())):
            shown = self._instead_of(int(wanted[number]), picture) if isinstance(picture, str) else picture
            out[place == number] = shown
        self._judge()
        return out

    def _load(self, number: int) -> tuple[NDArray[np.uint8] | str, bytes]:
        if number in self._corrupt:
            return self.quarantined[self._source.file(number)], b""
        return load(self._source, number, self._spec)

    def _instead_of(self, number: int, reason: str) -> NDArray[np.uint8]:
        """The first decodable image of an order that belongs to ``number`` alone."""
        self._quarantine(number, reason)
        for attempt in range(len(self)):
            other = int(sample_indices(len(self), number, attempt, 1)[0])
            self._see(other)
            picture, _ = self._load(other)
            if not isinstance(picture, str):
                return picture
            self._quarantine(other, picture)
        raise DataError(f"none of the {len(self):,} images of {self._source.name} can be decoded: {reason}")

    def _quarantine(self, number: int, reason: str) -> None:
        name = self._source.file(number)
        with self._lock:
            if number in self._corrupt:
                return
            self.quarantined[name] = reason
            self._corrupt.add(number)
        _log.warning("quarantined %s: %s", name, reason)

    def _see(self, numbers: NDArray[np.int64] | int) -> None:
        with self._lock:
            self._seen[numbers] = True

    def _judge(self) -> None:
        with self._lock:
            seen, corrupt = int(np.count_nonzero(self._seen)), len(self._corrupt)
        if seen >= self._least and corrupt / seen > self._max_corrupt:
            name, reason = next(iter(self.quarantined.items()))
            raise DataError(
                f"{corrupt:,} of the {seen:,} images of {self._source.name} seen so far cannot be decoded, more than "
                f"the share {self._max_corrupt:g}; the first is {name}: {reason}"
            )
