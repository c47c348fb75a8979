"""A bundle on disk: its reader, its writer and the check of every file's hash.

Export writes a bundle with :func:`write_bundle`; the service reads it with :func:`open_bundle`,
which refuses anything it cannot prove whole. A bundle is a directory; nothing in it is executed.
"""

from __future__ import annotations

import hashlib
import json
import zipfile
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

import numpy as np

from bootleg_bundle.errors import BundleFileError, ManifestError
from bootleg_bundle.graph_weights import weight_files
from bootleg_bundle.manifest import (
    GRAPH_INPUT,
    MANIFEST_NAME,
    MAX_MANIFEST_BYTES,
    FileEntry,
    Manifest,
    parse_manifest,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from numpy.typing import NDArray

    from bootleg_bundle.manifest import Graph


class Bundle:
    """A verified bundle on disk.

    Attributes:
        path: the directory, links resolved: a link that is moved later does not change what this is.
        source: where it was sought, and where a newer one may be.
        manifest: its parsed manifest.
        sha256: hash of ``manifest.json`` and, through it, of every file.
    """

    def __init__(self, path: Path, manifest: Manifest, sha256: str, source: Path | None = None) -> None:
        self.path = path
        self.source = source or path
        self.manifest = manifest
        self.sha256 = sha256

    def file(self, name: str) -> Path:
        """Return the path of a listed file."""
        assert name in self.manifest.files, f"{name} is not listed in the manifest"
        return self.path / name

    def golden(self) -> dict[str, NDArray[Any]]:
        """Read the golden input and outputs.

        Returns:
            ``pixels`` uint8 ``[n, H, W, 3]`` and each expected output, float32 ``[n, ...]``: those of
            ``GOLDEN_OUTPUTS`` and, by :func:`golden_key`, each head's logits.

        Raises:
            BundleFileError: the file does not hold them.
        """
        spec, rows, name = self.manifest.preprocess, self.manifest.golden_rows, self.manifest.golden
        try:
            with np.load(self.file(name), allow_pickle=False) as file:
                arrays = {key: file[key] for key in (GRAPH_INPUT, *rows)}
        except (OSError, ValueError, KeyError, TypeError, zipfile.BadZipFile) as error:
            raise BundleFileError(f"{name} does not hold the golden arrays") from error
        for key, array in arrays.items():
            row = (spec.height, spec.width, 3) if key == GRAPH_INPUT else rows[key]
            dtype = np.uint8 if key == GRAPH_INPUT else np.float32
            if array.shape[1:] != row or array.dtype != dtype or not 0 < len(array) == len(arrays[GRAPH_INPUT]):
                raise BundleFileError(f"{name}: {key} is {array.dtype} {array.shape}, not what the manifest says")
        return arrays

    def graph(self, precision: str) -> Path:
        """Return the path of the encoder graph of ``precision``.

        Raises:
            BundleFileError: it takes weights from a file that the manifest does not list.
        """
        return self._graph(self.manifest.graphs[precision])

    def head(self, name: str) -> Path:
        """Return the path of a head's graph.

        Raises:
            BundleFileError: it takes weights from a file that the manifest does not list.
        """
        return self._graph(self.manifest.heads[name].graph)

    def _graph(self, graph: Graph) -> Path:
        path, folder = self.file(graph.file), PurePosixPath(graph.file).parent
        unlisted = {name for name in weight_files(path) if str(folder / name) not in graph.external_data}
        if unlisted:
            raise BundleFileError(
                f"{graph.file} takes weights from {min(unlisted)!r:.100}, which its entry in the manifest does not list"
            )
        return path


def default_bundle_path() -> Path:
    """Return the directory of the bundle that ships with the package."""
    return Path(__file__).with_name("default")


def open_bundle(path: Path) -> Bundle:
    """Read a bundle and verify every file it names.

    Raises:
        ManifestError: no directory, no manifest, or a manifest that does not fit the schema.
        FormatVersionError: written for a newer reader.
        BundleFileError: a file is missing, is a link, lies outside, or has another size or hash.
    """
    source, path = path, path.resolve()
    manifest_path = path / MANIFEST_NAME
    if not path.is_dir() or manifest_path.is_symlink() or not manifest_path.is_file():
        raise ManifestError(f"{source} is no bundle: it has no {MANIFEST_NAME}")
    with manifest_path.open("rb") as file:
        raw = file.read(MAX_MANIFEST_BYTES + 1)
    manifest = parse_manifest(raw)
    for name, entry in manifest.files.items():
        _verify_file(path, name, entry)
    return Bundle(path, manifest, hashlib.sha256(raw).hexdigest(), source)


def write_bundle(path: Path, fields: Mapping[str, Any], files: Iterable[str]) -> Bundle:
    """Hash the files that lie in ``path`` and write the manifest beside them.

    Args:
        path: directory that holds every named file.
        fields: all fields of :class:`Manifest` but ``files``.
        files: their names relative to ``path``.

    Returns:
        The bundle, verified as a reader would.
    """
    entries = {
        name: FileEntry(sha256=file_sha256(path / name), bytes=(path / name).stat().st_size) for name in sorted(files)
    }
    manifest = Manifest(**fields, files=entries)
    text = json.dumps(manifest.model_dump(mode="json"), indent=2, sort_keys=True) + "\n"
    (path / MANIFEST_NAME).write_text(text, encoding="utf-8")
    return open_bundle(path)


def file_sha256(path: Path) -> str:
    """Return the SHA-256 of a file, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def plain_file(path: Path, name: str) -> Path:
    """Return where a file of the bundle in ``path`` lies.

    Raises:
        BundleFileError: it is missing, or it or a directory on the way to it is a link.
    """
    parts = PurePosixPath(name).parts
    if any(path.joinpath(*parts[: i + 1]).is_symlink() for i in range(len(parts))):
        raise BundleFileError(f"{name} is a link; a bundle holds plain files only")
    if not (path / name).is_file():
        raise BundleFileError(f"{name} is missing from the bundle")
    return path / name


def _verify_file(path: Path, name: str, entry: FileEntry) -> None:
    target = plain_file(path, name)
    size = target.stat().st_size
    if size != entry.bytes:
        raise BundleFileError(f"{name} has {size:,} bytes; the manifest says {entry.bytes:,}")
    if file_sha256(target) != entry.sha256:
        raise BundleFileError(f"{name} does not have the SHA-256 that the manifest states: it was changed or damaged")
