"""A request's options, checked against each other and the bundle: what to make, and in which form to answer.

Nothing after it has to ask whether options fit together.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from bootleg_bundle.manifest import golden_key
from bootleg_service.answers import JSON, NPY, choose
from bootleg_service.errors import RequestError
from bootleg_service.masks.schemas import CLUSTERS, POLYGONS

if TYPE_CHECKING:
    from collections.abc import Mapping

    from bootleg_bundle.manifest import Manifest
    from bootleg_service.masks.placement import MaskSize
    from bootleg_service.masks.schemas import Format, Method, SegmentOptions

    Form = tuple[Format, str]
    """A format, and the media type that carries it."""

PNG: Final = "image/png"
DEFAULT_POLYGONS: Final = 100

_FORMS: Final[Mapping[Format | None, Mapping[str, Form]]] = {
    None: {
        "*/*": ("rle", JSON),
        "application/*": ("rle", JSON),
        JSON: ("rle", JSON),
        "image/*": ("png", PNG),
        PNG: ("png", PNG),
        NPY: ("npy", NPY),
        "application/npy": ("npy", NPY),
    },
    "rle": dict.fromkeys(("*/*", "application/*", JSON), ("rle", JSON)),
    "polygons": dict.fromkeys(("*/*", "application/*", JSON), ("polygons", JSON)),
    "png": {
        **dict.fromkeys(("*/*", "image/*", PNG), ("png", PNG)),
        **dict.fromkeys(("application/*", JSON), ("png", JSON)),
    },
    "npy": dict.fromkeys(("*/*", "application/*", NPY, "application/npy"), ("npy", NPY)),
}


@dataclass(frozen=True)
class MaskRequest:
    """What to make.

    Attributes:
        head: of the bundle; None: label-free.
        method: label-free; None: by the head.
        clusters: of the method; None: chosen for each image.
        size: of the mask.
        format: of the mask.
        max_polygons: of a segment.
    """

    head: str | None
    method: Method | None
    clusters: int | None
    size: MaskSize
    format: Format
    max_polygons: int

    @property
    def kind(self) -> str:
        """All of it in one form, for the cache's key; the number says how masks are computed and packed."""
        parts = (self.head, self.method, self.clusters, self.size, self.format, self.max_polygons)
        return "mask-1:" + ":".join(map(str, parts))

    @property
    def source(self) -> str:
        """The model's output that the mask is made of."""
        return "patch_tokens" if self.head is None else golden_key(self.head)


def read_options(options: SegmentOptions, accept: str, manifest: Manifest) -> tuple[MaskRequest, str]:
    """Check a request's options.

    Args:
        options: from the query.
        accept: the request's header.
        manifest: of the bundle.

    Returns:
        What to make, and the media type of the answer.

    Raises:
        RequestError: options that do not fit each other or the bundle.
        NotAcceptableError: the format cannot be had in an accepted media type.
    """
    made, wire = choose(accept, _FORMS[options.format])
    head, method = options.head, options.method
    if head is not None and method is not None:
        raise RequestError(f"method: {method} cannot be had together with a head; leave one out", param="method")
    if head is not None and head not in manifest.heads:
        have = ", ".join(manifest.heads) or "none"
        raise RequestError(f"head: no such head; this model has {have}; without one, give a method", param="head")
    if head is None:
        method = method or "kmeans"
    if options.clusters is not None:
        if method not in {"kmeans", "ncut"}:
            raise RequestError(f"clusters: {options.clusters} asked for; only kmeans and ncut count", param="clusters")
        _check_bounds("clusters", options.clusters, CLUSTERS)
    if options.max_polygons is not None:
        if made != "polygons":
            raise RequestError(
                f"max_polygons: {options.max_polygons} asked for, but the format is {made}", param="max_polygons"
            )
        _check_bounds("max_polygons", options.max_polygons, POLYGONS)
    count = options.max_polygons or (DEFAULT_POLYGONS if made == "polygons" else 0)
    return MaskRequest(head, method, options.clusters, options.size, made, count), wire


def _check_bounds(name: str, value: int, bounds: tuple[int, int]) -> None:
    low, high = bounds
    if not low <= value <= high:
        raise RequestError(f"{name}: {value} asked for; {low} to {high:,} are allowed", param=name)
