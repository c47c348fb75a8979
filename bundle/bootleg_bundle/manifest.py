"""The bundle's manifest: its schema, its reader, its writer and the check of every file's hash.

Export writes a bundle with :func:`write_bundle`; the service reads it with :func:`open_bundle`,
which refuses anything it cannot prove whole. A bundle is a directory; nothing in it is executed.
"""

from __future__ import annotations

import hashlib
import json
import re
import zipfile
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Annotated, Any, Final, Literal

import numpy as np
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, model_validator

from bootleg_bundle.errors import BundleFileError, FormatVersionError, ManifestError, first_fault
from bootleg_bundle.preprocess import PreprocessSpec

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from numpy.typing import NDArray

FORMAT_VERSION: Final = 1
MANIFEST_NAME = "manifest.json"
GOLDEN_NAME = "golden.npz"

GRAPH_INPUT: Final = "pixels"
GRAPH_OUTPUTS: Final = ("embedding", "patch_tokens", "layers")

GOLDEN_TOLERANCE: Final = {"fp32": 1e-4, "fp16": 1e-2, "bf16": 3e-2, "int8": 1e-1}
"""By precision: the largest relative error (Frobenius) of a golden output on any machine."""

_PATH = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}(/[A-Za-z0-9][A-Za-z0-9._-]{0,99}){0,3}")
_NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,99}")
_HEX = r"^[0-9a-f]{64}$"


def _relative(path: str) -> str:
    if not _PATH.fullmatch(path):
        raise ValueError(f"{path!r} is not a plain path inside the bundle")
    return path


def _model_name(name: str) -> str:
    if not _NAME.fullmatch(name):
        raise ValueError(f"{name!r}: use 1 to 100 of a-z, 0-9, '.', '_' and '-', beginning with a letter or digit")
    return name


RelativePath = Annotated[str, AfterValidator(_relative)]
Count = Annotated[int, Field(gt=0)]


class _Strict(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class FileEntry(_Strict):
    """One file's identity."""

    sha256: str = Field(pattern=_HEX)
    bytes: int = Field(ge=0)


class Architecture(_Strict):
    """The encoder's shape, in the field's usual names."""

    name: str
    image_size: Count = Field(description="input side in pixels")
    patch_size: Count = Field(description="patch side in pixels")
    width: Count
    depth: Count = Field(description="number of blocks")
    heads: Count
    registers: int = Field(ge=0)
    parameters: Count


class Outputs(_Strict):
    """What the encoder graph returns for an input of ``[batch, height, width, 3]``."""

    dim: Count = Field(description="D: `embedding` is [batch, D], the mean patch token after the final norm")
    grid: tuple[Count, Count] = Field(description="(gh, gw): `patch_tokens` is [batch, gh, gw, D]")
    layers: tuple[Count, ...] = Field(description="1-based blocks of `layers`, [batch, q, D], mean patch token of each")

    @property
    def row_shapes(self) -> dict[str, tuple[int, ...]]:
        """Shape of one image's row of each output."""
        return {
            "embedding": (self.dim,),
            "patch_tokens": (*self.grid, self.dim),
            "layers": (len(self.layers), self.dim),
        }


class Graph(_Strict):
    """One encoder graph."""

    file: RelativePath
    opset: Count


class Parity(_Strict):
    """One output of one graph, measured against the source weights in float32."""

    precision: str
    output: str
    images: Count
    relative_frobenius: float = Field(ge=0)
    cosine_min: float
    max_abs: float = Field(ge=0)


class Probe(_Strict):
    """One measured quality figure; ``random_init`` is an untrained encoder of the same shape."""

    probe: str = Field(description="knn, linear, ...")
    dataset: str
    metric: str = "accuracy"
    value: float
    random_init: float | None = None
    detail: str = ""


class Provenance(_Strict):
    """Where the weights come from."""

    method: str
    dataset: str
    dataset_fingerprint: str
    steps: int = Field(ge=0)
    images_seen: int = Field(ge=0)
    training_seconds: float = Field(ge=0)
    hardware: str
    commit: str
    checkpoint_sha256: str = Field(pattern=_HEX)
    versions: dict[str, str]


class Manifest(_Strict):
    """``manifest.json``: everything a reader needs, and the hash of every other file."""

    format_version: Literal[1] = FORMAT_VERSION
    name: Annotated[str, AfterValidator(_model_name)]
    embedding_space: str = Field(
        pattern=r"^es1-[0-9a-f]{32}$", description="changes when, and only when, vectors stop being comparable"
    )
    architecture: Architecture
    preprocess: PreprocessSpec
    outputs: Outputs
    graphs: dict[str, Graph] = Field(description="by precision; fp32 always")
    golden: RelativePath = GOLDEN_NAME
    parity: tuple[Parity, ...]
    probes: tuple[Probe, ...] = ()
    provenance: Provenance
    files: dict[RelativePath, FileEntry]

    @model_validator(mode="after")
    def _files_named_are_listed(self) -> Manifest:
        if "fp32" not in self.graphs:
            raise ValueError("graphs: the fp32 graph is required")
        unknown = sorted(set(self.graphs) - set(GOLDEN_TOLERANCE))
        if unknown:
            raise ValueError(f"graphs: unknown precision {unknown[0]!r}; known: {', '.join(GOLDEN_TOLERANCE)}")
        for path in [self.golden, *(graph.file for graph in self.graphs.values())]:
            if path not in self.files:
                raise ValueError(f"files: {path!r} is named by the manifest but has no entry")
        return self


class Bundle:
    """A verified bundle on disk.

    Attributes:
        path: the directory.
        manifest: its parsed manifest.
        sha256: hash of ``manifest.json`` and, through it, of every file.
    """

    def __init__(self, path: Path, manifest: Manifest, sha256: str) -> None:
        self.path = path
        self.manifest = manifest
        self.sha256 = sha256

    def file(self, name: str) -> Path:
        """Return the path of a listed file."""
        assert name in self.manifest.files, f"{name} is not listed in the manifest"
        return self.path / name

    def golden(self) -> dict[str, NDArray[Any]]:
        """Read the golden input and outputs.

        Returns:
            ``pixels`` uint8 ``[n, H, W, 3]`` and each output, float32 ``[n, ...]``.

        Raises:
            BundleFileError: the file does not hold them.
        """
        spec, rows, name = self.manifest.preprocess, self.manifest.outputs.row_shapes, self.manifest.golden
        try:
            with np.load(self.file(name), allow_pickle=False) as file:
                arrays = {key: file[key] for key in (GRAPH_INPUT, *GRAPH_OUTPUTS)}
        except (OSError, ValueError, KeyError, TypeError, zipfile.BadZipFile) as error:
            raise BundleFileError(f"{name} does not hold the golden arrays") from error
        for key, array in arrays.items():
            row = (spec.height, spec.width, 3) if key == GRAPH_INPUT else rows[key]
            dtype = np.uint8 if key == GRAPH_INPUT else np.float32
            if array.shape[1:] != row or array.dtype != dtype or not 0 < len(array) == len(arrays[GRAPH_INPUT]):
                raise BundleFileError(f"{name}: {key} is {array.dtype} {array.shape}, not what the manifest says")
        return arrays

    def graph(self, precision: str) -> Path:
        """Return the path of the encoder graph of ``precision``."""
        return self.file(self.manifest.graphs[precision].file)


def check_model_name(name: str) -> None:
    """Refuse a name that a manifest cannot hold, before any work is done for it.

    Raises:
        ManifestError: with the characters a name may have.
    """
    try:
        _model_name(name)
    except ValueError as error:
        raise ManifestError(f"name: {error}") from None


def default_bundle_path() -> Path:
    """Return the directory of the bundle that ships with the package."""
    return Path(__file__).with_name("default")


def embedding_space_id(weights_sha256: str, preprocess: PreprocessSpec, pooling: str) -> str:
    """Derive the embedding-space id from what decides whether two vectors are comparable.

    Args:
        weights_sha256: hash of the weights themselves, not of a file that holds them.
        preprocess: the input's specification.
        pooling: the rule that makes a vector from patch tokens.

    Returns:
        ``"es1-"`` and 32 hexadecimal digits.
    """
    digest = hashlib.sha256(f"embedding-space-1\n{weights_sha256}\n{preprocess.hash}\n{pooling}".encode())
    return f"es1-{digest.hexdigest()[:32]}"


def file_sha256(path: Path) -> str:
    """Return the SHA-256 of a file, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


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


def open_bundle(path: Path) -> Bundle:
    """Read a bundle and verify every file it names.

    Raises:
        ManifestError: no directory, no manifest, or a manifest that does not fit the schema.
        FormatVersionError: written for a newer reader.
        BundleFileError: a file is missing, is a link, lies outside, or has another size or hash.
    """
    manifest_path = path / MANIFEST_NAME
    if not path.is_dir() or manifest_path.is_symlink() or not manifest_path.is_file():
        raise ManifestError(f"{path} is no bundle: it has no {MANIFEST_NAME}")
    raw = manifest_path.read_bytes()
    manifest = parse_manifest(raw)
    for name, entry in manifest.files.items():
        _verify_file(path, name, entry)
    return Bundle(path, manifest, hashlib.sha256(raw).hexdigest())


def parse_manifest(raw: bytes) -> Manifest:
    """Parse and validate the bytes of a ``manifest.json``.

    Raises:
        ManifestError: not JSON, or a field is missing, unknown or out of bounds.
        FormatVersionError: written for a newer reader.
    """
    try:
        fields = json.loads(raw)
    except (ValueError, RecursionError) as error:  # UnicodeDecodeError is a ValueError
        raise ManifestError(f"{MANIFEST_NAME} is not valid JSON") from error
    version = fields.get("format_version") if isinstance(fields, dict) else None
    if isinstance(version, int) and version > FORMAT_VERSION:
        raise FormatVersionError(
            f"{MANIFEST_NAME} has format version {version}; this program reads up to {FORMAT_VERSION}: upgrade it"
        )
    try:
        return Manifest.model_validate_json(raw)
    except ValidationError as error:
        field, reason = first_fault(error)
        raise ManifestError(f"{MANIFEST_NAME}: {field or 'manifest'}: {reason}") from error


def _verify_file(path: Path, name: str, entry: FileEntry) -> None:
    target = path / name
    steps = [path.joinpath(*PurePosixPath(name).parts[: i + 1]) for i in range(len(PurePosixPath(name).parts))]
    if any(step.is_symlink() for step in steps):
        raise BundleFileError(f"{name} is a link; a bundle holds plain files only")
    if not target.is_file():
        raise BundleFileError(f"{name} is missing from the bundle")
    size = target.stat().st_size
    if size != entry.bytes:
        raise BundleFileError(f"{name} has {size:,} bytes; the manifest says {entry.bytes:,}")
    if file_sha256(target) != entry.sha256:
        raise BundleFileError(f"{name} does not have the SHA-256 that the manifest states: it was changed or damaged")
