"""Features on disk: computed once, found again by everything that decides what they are.

    FOLDER/KEY.npy       the features, memory-mapped by the reader; no pickle
    FOLDER/KEY.sha256    hash of their rows, written last

An entry that is not whole is computed again and counted. Probes call this, with a folder that the user chose or
with a temporary one; it must never return features of other weights, images, sizes or precision.
"""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from bootleg_training.checkpoint import weights_sha256
from bootleg_training.probes.features import row_of, stream_features
from bootleg_training.progress import meter

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from numpy.typing import NDArray

    from bootleg_bundle.preprocess import PreprocessSpec
    from bootleg_training.data.images import Images
    from bootleg_training.probes.features import Kind
    from bootleg_training.vit import Encoder

VERSION = 1
"""Raise when the meaning of a kind changes."""

CHUNK = 64 * 2**20


class FeatureCache:
    """Features in one folder.

    Attributes:
        hits: arrays that were found.
        computed: arrays that were not.
        damaged: arrays among ``computed`` that lay there but were not whole.
    """

    def __init__(self, folder: Path, *, precision: str) -> None:
        self.folder = folder
        self.precision = precision
        self.hits = self.computed = self.damaged = 0

    def features(
        self,
        encoder: Encoder,
        images: Images,
        fingerprint: str,
        spec: PreprocessSpec,
        kinds: Sequence[Kind],
        *,
        title: str = "features",
    ) -> dict[Kind, NDArray[np.floating]]:
        """Find or compute features.

        Args:
            encoder: on any device.
            images: uint8 ``[images, h, w, 3]``.
            fingerprint: hash of the images' content.
            spec: preprocessing.
            kinds: see :func:`bootleg_training.probes.features.row_of`.
            title: of the progress display.

        Returns:
            By kind ``[images, *row]``, read-only and memory-mapped.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        identity = self._identity(encoder, fingerprint, spec)
        keys = {kind: hashlib.sha256(f"{kind}\n{identity}".encode()).hexdigest() for kind in kinds}
        shapes = {kind: (len(images), *row_of(kind, encoder.config)[0]) for kind in kinds}
        found = {kind: self._read(key, shapes[kind]) for kind, key in keys.items()}
        missing = [kind for kind, array in found.items() if array is None]
        if missing:
            self._compute(encoder, images, spec, {kind: keys[kind] for kind in missing}, title)
        self.hits += len(found) - len(missing)
        self.computed += len(missing)
        return {kind: np.load(self._path(key), mmap_mode="r", allow_pickle=False) for kind, key in keys.items()}

    def _identity(self, encoder: Encoder, fingerprint: str, spec: PreprocessSpec) -> str:
        fields = {
            "version": VERSION,
            "weights": weights_sha256({**encoder.state_dict(), "positions_ND": encoder.positions_ND}),
            "encoder": encoder.config.model_dump(mode="json"),  # the weights do not say how many heads there are
            "images": fingerprint,
            "preprocess": spec.hash,
            "precision": self.precision,
            "device": next(encoder.parameters()).device.type,  # rounds in its own way
        }
        return json.dumps(fields, sort_keys=True)

    def _path(self, key: str) -> Path:
        return self.folder / f"{key}.npy"

    def _read(self, key: str, shape: tuple[int, ...]) -> NDArray[np.floating] | None:
        path, stated = self._path(key), self.folder / f"{key}.sha256"
        if not path.is_file() or not stated.is_file():
            return None
        try:
            array: NDArray[np.floating] = np.load(path, mmap_mode="r", allow_pickle=False)
        except (OSError, ValueError, EOFError):  # numpy's answers to a damaged header or a short file
            self.damaged += 1
            return None
        if array.shape != shape or _rows_sha256(array) != stated.read_text(encoding="ascii", errors="replace"):
            self.damaged += 1
            return None
        return array

    def _compute(
        self, encoder: Encoder, images: Images, spec: PreprocessSpec, keys: dict[Kind, str], title: str
    ) -> None:
        """Write the arrays of the given kinds in one pass over the images, whole or not at all."""
        partial = {kind: self.folder / f"{key}.{os.getpid()}.partial" for kind, key in keys.items()}
        digests = {kind: hashlib.sha256() for kind in keys}
        done = 0
        with ExitStack() as undo:
            arrays = {}
            for kind, path in partial.items():
                undo.callback(path.unlink, missing_ok=True)
                row, dtype = row_of(kind, encoder.config)
                arrays[kind] = np.lib.format.open_memmap(path, "w+", dtype, (len(images), *row))
            with meter(title, len(images)) as shown:
                for batch in stream_features(encoder, images, spec, list(keys), precision=self.precision):
                    for kind, rows in batch.items():
                        arrays[kind][done : done + len(rows)] = rows
                        digests[kind].update(np.ascontiguousarray(rows).data)
                    done += len(rows)
                    shown.update(done)
            for kind, key in keys.items():
                arrays.pop(kind).flush()
                partial[kind].replace(self._path(key))
                stated = self.folder / f"{key}.{os.getpid()}.sha256.partial"
                stated.write_text(digests[kind].hexdigest(), encoding="ascii")
                stated.replace(self.folder / f"{key}.sha256")


@contextmanager
def open_cache(folder: Path | None, *, precision: str) -> Iterator[FeatureCache]:
    """A cache in ``folder``, or one that is gone afterwards."""
    if folder is not None:
        yield FeatureCache(folder, precision=precision)
        return
    with tempfile.TemporaryDirectory(prefix="bootleg-features-") as temporary:
        yield FeatureCache(Path(temporary), precision=precision)


def _rows_sha256(array: NDArray[np.floating]) -> str:
    digest = hashlib.sha256()
    step = max(1, CHUNK // max(1, array[:1].nbytes))
    for start in range(0, len(array), step):
        digest.update(np.ascontiguousarray(array[start : start + step]).data)
    return digest.hexdigest()
