"""The schema of ``manifest.json``, what a bundle says about itself, and its parser.

:mod:`bootleg_bundle.bundle` reads and writes whole bundles with it. ``docs/bundle-format.md`` says the same in words.
"""

from __future__ import annotations

import hashlib
import json
import re
from pathlib import PurePosixPath
from typing import Annotated, Final, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, WithJsonSchema, model_validator

from bootleg_bundle.errors import FormatVersionError, ManifestError, first_fault
from bootleg_bundle.preprocess import PreprocessSpec

FORMAT_VERSION: Final = 1
MANIFEST_NAME = "manifest.json"
MAX_MANIFEST_BYTES: Final = 4 * 2**20  # a head of 10,000 classes takes 1.4 MB
GOLDEN_NAME = "golden.npz"

GRAPH_INPUT: Final = "pixels"
GRAPH_OUTPUTS: Final = ("embedding", "patch_tokens", "layers", "layer_tokens")
HEAD_OUTPUT: Final = "logits"

GOLDEN_OUTPUTS: Final = ("embedding", "patch_tokens", "layers")
"""What ``golden.npz`` holds of the encoder; `layer_tokens` is several times all of it and is pooled into `layers`."""

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


def _string(pattern: re.Pattern[str]) -> WithJsonSchema:
    return WithJsonSchema({"type": "string", "pattern": f"^{pattern.pattern}$"})


RelativePath = Annotated[str, AfterValidator(_relative), _string(_PATH)]
ModelName = Annotated[str, AfterValidator(_model_name), _string(_NAME)]
Count = Annotated[int, Field(gt=0)]
Channel = Annotated[int, Field(ge=0, le=255)]


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
    layers: tuple[Count, ...] = Field(
        description="1-based blocks of `layers`, [batch, q, D], mean patch token of each, "
        "and of `layer_tokens`, [batch, q, gh, gw, D]"
    )

    @property
    def row_shapes(self) -> dict[str, tuple[int, ...]]:
        """Shape of one image's row of each output."""
        return {
            "embedding": (self.dim,),
            "patch_tokens": (*self.grid, self.dim),
            "layers": (len(self.layers), self.dim),
            "layer_tokens": (len(self.layers), *self.grid, self.dim),
        }


class Calibration(_Strict):
    """The images by which an integer graph's ranges were set."""

    dataset: str
    images: Count
    fingerprint: str = Field(description="of the data set's content")
    operators: tuple[Literal["linear", "attention"], ...] = Field(
        ("linear",), description="what is computed in 8 bits: linear layers, and the two products of attention"
    )


class Graph(_Strict):
    """One ONNX graph."""

    file: RelativePath
    opset: Count
    external_data: tuple[RelativePath, ...] = Field((), description="files beside it that hold its weights")
    calibration: Calibration | None = None
    batch_invariance: float | None = Field(
        None, ge=0, description="largest relative Frobenius difference of an image alone and in a batch; None: not run"
    )


class PixelClass(_Strict):
    """What one channel of a segmentation head's logits stands for."""

    name: str = Field(min_length=1, max_length=100)
    color: tuple[Channel, Channel, Channel] = Field(description="RGB, 0 to 255, for pictures of masks")


class Head(_Strict):
    """A graph fed by an output of the encoder, so that embedding and mask come from one forward pass.

    Its input has the encoder output's name and shape; its output is ``logits`` ``[batch, C, h, w]``, float32.
    """

    kind: Literal["segmentation"] = "segmentation"
    input: Literal["patch_tokens", "layer_tokens"]
    graph: Graph
    classes: tuple[PixelClass, ...] = Field(min_length=2, description="C, in the order of the channels")
    grid: tuple[Count, Count] = Field(description="(h, w) of the logits; interpolate bilinearly to pixels, then argmax")

    @property
    def row_shape(self) -> tuple[int, int, int]:
        """Shape of one image's logits."""
        return (len(self.classes), *self.grid)


class Parity(_Strict):
    """One output of one graph, measured against the source weights in float32."""

    precision: str
    output: str
    images: Count
    relative_frobenius: float = Field(ge=0)
    cosine_min: float = Field(description="smallest cosine of a vector with its reference")
    cosine_p1: float = Field(description="its first percentile")
    max_abs: float = Field(ge=0)


class Task(_Strict):
    """What a lower precision costs on a task: the same probe on features of ``precision`` and of fp32."""

    precision: str
    task: str = Field(description="knn, linear, or miou:HEAD")
    dataset: str
    value: float
    fp32: float
    detail: str = ""

    @property
    def drop(self) -> float:
        """Points lost, of 100; negative when the lower precision is ahead."""
        return 100 * (self.fp32 - self.value)


class Probe(_Strict):
    """One measured quality figure; ``random_init`` is an untrained encoder of the same shape."""

    probe: str = Field(description="knn, linear, ...")
    dataset: str
    metric: str = "accuracy"
    value: float
    random_init: float | None = None
    detail: str = ""


class Ancestor(_Strict):
    """A run with whose weights a later one began."""

    method: str
    dataset: str
    steps: int = Field(ge=0)
    images_seen: int = Field(ge=0)
    checkpoint_sha256: str = Field(pattern=_HEX)


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
    ancestors: tuple[Ancestor, ...] = Field((), description="whose weights the run began with, the oldest first")

    @property
    def lineage(self) -> tuple[Ancestor, ...]:
        """The ancestors of a run that begins with these weights."""
        return (*self.ancestors, Ancestor.model_validate(self.model_dump(include=set(Ancestor.model_fields))))


class Manifest(_Strict):
    """``manifest.json``: everything a reader needs, and the hash of every other file."""

    format_version: Literal[1] = FORMAT_VERSION
    name: ModelName
    embedding_space: str = Field(
        pattern=r"^es1-[0-9a-f]{32}$", description="changes when, and only when, vectors stop being comparable"
    )
    architecture: Architecture
    preprocess: PreprocessSpec
    outputs: Outputs
    graphs: dict[str, Graph] = Field(description="encoder graphs by precision; fp32 always")
    heads: dict[ModelName, Head] = Field(default_factory=dict, description="by name")
    golden: RelativePath = GOLDEN_NAME
    parity: tuple[Parity, ...]
    tasks: tuple[Task, ...] = ()
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
        graphs = [*self.graphs.values(), *(head.graph for head in self.heads.values())]
        for path in [self.golden, *(path for graph in graphs for path in (graph.file, *graph.external_data))]:
            if path not in self.files:
                raise ValueError(f"files: {path!r} is named by the manifest but has no entry")
        return self

    @model_validator(mode="after")
    def _files_can_lie_side_by_side(self) -> Manifest:
        if MANIFEST_NAME in self.files:
            raise ValueError(f"files: {MANIFEST_NAME!r} cannot hold its own hash")
        for path in self.files:
            above = next((str(folder) for folder in PurePosixPath(path).parents if str(folder) in self.files), None)
            if above is not None:
                raise ValueError(f"files: {above!r} cannot be a file and the folder of {path!r}")
        return self

    @property
    def golden_rows(self) -> dict[str, tuple[int, ...]]:
        """Shape of one image's row of each expected output in ``golden.npz``."""
        encoder = {name: self.outputs.row_shapes[name] for name in GOLDEN_OUTPUTS}
        return encoder | {golden_key(name): head.row_shape for name, head in self.heads.items()}


def golden_key(head: str) -> str:
    """Return the name of a head's expected logits in ``golden.npz``."""
    return f"{HEAD_OUTPUT}.{head}"


def check_model_name(name: str) -> None:
    """Refuse a name that a manifest cannot hold, before any work is done for it.

    Raises:
        ManifestError: with the characters a name may have.
    """
    try:
        _model_name(name)
    except ValueError as error:
        raise ManifestError(f"name: {error}") from None


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


def parse_manifest(raw: bytes) -> Manifest:
    """Parse and validate the bytes of a ``manifest.json``.

    Raises:
        ManifestError: too long, not JSON, or a field is missing, unknown or out of bounds.
        FormatVersionError: written for a newer reader.
    """
    if len(raw) > MAX_MANIFEST_BYTES:
        raise ManifestError(f"{MANIFEST_NAME} has over {MAX_MANIFEST_BYTES:,} bytes, which is the limit")
    try:
        fields = json.loads(raw)
    except (ValueError, RecursionError) as error:  # UnicodeDecodeError is a ValueError
        raise ManifestError(f"{MANIFEST_NAME} is not valid JSON") from error
    version = fields.get("format_version") if isinstance(fields, dict) else None
    if isinstance(version, int) and version > FORMAT_VERSION:
        raise FormatVersionError(
            f"{MANIFEST_NAME} has format version {version}; this program reads up to {FORMAT_VERSION}: upgrade it"
        )
    if version is None:
        raise ManifestError(f"{MANIFEST_NAME}: format_version: Field required")
    try:
        return Manifest.model_validate_json(raw, strict=True)  # "64" is no number
    except ValidationError as error:
        field, reason = first_fault(error)
        raise ManifestError(f"{MANIFEST_NAME}: {field or 'manifest'}: {reason}") from error
