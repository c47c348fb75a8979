"""What a request asks for: vectors of which layer, pooled how, in which form. And the space they live in.

A route checks its options with :func:`select`, asks the pipeline for the selection's ``output``, and takes the vectors
from the answer with :func:`embeddings`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np

from bootleg_service.answers import Rows
from bootleg_service.errors import RequestError
from bootleg_service.respond import rows
from bootleg_service.vectors import quantise, shorten

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray
    from pydantic import BaseModel
    from starlette.requests import Request

    from bootleg_bundle.errors import BootlegError
    from bootleg_bundle.manifest import Manifest
    from bootleg_service.pipeline import Answer
    from bootleg_service.schemas import EmbeddingOptions
    from bootleg_service.state import Service

Pooling = Literal["mean", "max"]


@dataclass(frozen=True)
class Selection:
    """A layer and a pooling.

    Attributes:
        manifest: of the model served.
        layer: a 1-based block among the manifest's layers; None: the encoder's end, after the final norm.
        pooling: how the patch tokens become one vector.
    """

    manifest: Manifest
    layer: int | None = None
    pooling: Pooling = "mean"

    def __post_init__(self) -> None:
        layers = self.manifest.outputs.layers
        if self.layer is not None and self.layer not in layers:
            given = ", ".join(map(str, layers))
            raise RequestError(f"layer: {self.layer} asked for; this model gives the layers {given}", param="layer")

    @property
    def output(self) -> str:
        """The encoder's output that holds the vectors: the graph takes means, the maximum is taken here."""
        if self.pooling == "mean":
            return "embedding" if self.layer is None else "layers"
        return self.grid_output

    @property
    def grid_output(self) -> str:
        """The encoder's output that holds the patch tokens."""
        return "patch_tokens" if self.layer is None else "layer_tokens"

    @property
    def grid_space(self) -> str:
        """The space of the patch tokens: a hidden layer's are not comparable with the end's."""
        space = self.manifest.embedding_space
        return space if self.layer is None else f"{space}+layer{self.layer}"

    @property
    def space(self) -> str:
        """The space of the vectors."""
        return self.grid_space if self.pooling == "mean" else f"{self.grid_space}+{self.pooling}"

    def vector(self, value: NDArray[np.floating]) -> NDArray[np.float32]:
        """One image's vector ``[D]`` from its answer."""
        if self.pooling == "max":
            value = self.grid(value).max(axis=(0, 1))
        elif self.layer is not None:
            value = value[self._row]
        return value.astype(np.float32, copy=False)

    def grid(self, value: NDArray[np.floating]) -> NDArray[np.floating]:
        """One image's patch tokens ``[gh, gw, D]`` from its answer."""
        return value if self.layer is None else value[self._row]

    @property
    def _row(self) -> int:
        assert self.layer is not None
        return self.manifest.outputs.layers.index(self.layer)


def select(service: Service, request: Request, options: EmbeddingOptions) -> Selection:
    """Check a request's options against the model, and its pin against the space they choose.

    Raises:
        RequestError: a layer or a number of dimensions that the model does not have.
        SpaceMismatchError: another space is pinned.
    """
    selection = Selection(service.bundle.manifest, options.layer, options.pooling)
    service.check_pinned_space(request, selection.space)
    dim = selection.manifest.outputs.dim
    if options.dimensions is not None and options.dimensions > dim:
        raise RequestError(f"dimensions: {options.dimensions} asked for; the model has {dim}", param="dimensions")
    return selection


def check_options(request: Request, model: type[BaseModel] | None = None) -> None:
    """Refuse an option that a route does not have: a misspelt one must not be taken for its default.

    Raises:
        RequestError: with the options that it has.
    """
    if not request.scope["query_string"]:
        return
    known = model.model_fields if model else {}
    if not set(request.query_params) <= set(known):
        raise RequestError(f"query: an unknown option; known here: {', '.join(known) or 'none'}")


def embeddings(found: Sequence[Answer | BootlegError], options: EmbeddingOptions, selection: Selection) -> Rows:
    """The vectors of a request's images, in the form that its options choose."""
    chosen = rows(found, selection.vector, (selection.manifest.outputs.dim,))
    vectors = shorten(chosen.values, options.dimensions, normalize=options.normalize)
    return Rows(quantise(vectors, options.dtype), chosen.faults)
