"""Options and answers of the mask route, as the OpenAPI document shows them; ``masks.options`` checks what is asked."""

from __future__ import annotations

from typing import Annotated, Any, Final, Literal

from pydantic import BaseModel, ConfigDict, Field

from bootleg_service.masks.placement import UNSEEN, MaskSize
from bootleg_service.schemas import Grid, ItemError, Model, OnError, Usage

Method = Literal["kmeans", "ncut", "foreground"]
Format = Literal["rle", "polygons", "png", "npy"]

CLUSTERS: Final = (2, 32)
POLYGONS: Final = (1, 10_000)

_EXAMPLE: Final[dict[str, Any]] = {
    "object": "segmentation",
    "index": 0,
    "image": {"height": 3, "width": 5},
    "box": [1.0, 0.0, 4.0, 3.0],
    "size": {"height": 3, "width": 5},
    "unseen": 6,
    "segments": [
        {
            "label": 0,
            "name": "cluster 0",
            "color": [255, 64, 64],
            "area": 6,
            "bbox": [1, 0, 3, 2],
            "rle": {"size": [3, 5], "counts": "3210003"},
        },
        {
            "label": 1,
            "name": "cluster 1",
            "color": [64, 120, 255],
            "area": 3,
            "bbox": [1, 2, 3, 1],
            "rle": {"size": [3, 5], "counts": "5120001"},
        },
    ],
}


class SegmentOptions(BaseModel):
    """How masks are made, and in which form they are wanted."""

    head: str | None = Field(None, description="A trained head of the bundle, among those of GET /v1/models.")
    method: Method | None = Field(
        None,
        description="Label-free, when no head is asked for: clusters of patch tokens by k-means (the default), "
        "segments by normalised cut, or foreground and background.",
    )
    clusters: int | None = Field(
        None,
        description="Of kmeans and ncut, at most; chosen for each image when absent.",
        json_schema_extra={"minimum": CLUSTERS[0], "maximum": CLUSTERS[1]},
    )
    size: MaskSize = Field(
        "original",
        description="Of the mask: the grid of tokens or logits, the encoder's input, or the upright image.",
    )
    format: Format | None = Field(
        None,
        description="rle and polygons in JSON, png raw or in JSON, npy raw. When absent, `Accept` chooses; else rle.",
    )
    max_polygons: int | None = Field(
        None,
        description="Of one segment, the largest ones; 100 when absent.",
        json_schema_extra={"minimum": POLYGONS[0], "maximum": POLYGONS[1]},
    )
    on_error: OnError = "fail"
    model: Model = None


class Rle(BaseModel):
    """COCO's compressed run-length code, as pycocotools reads it."""

    size: tuple[int, int] = Field(description="height, width")
    counts: str


class Segment(BaseModel):
    """The pixels of one label."""

    label: int = Field(ge=0, lt=UNSEEN)
    name: str
    color: tuple[int, int, int] = Field(description="RGB, 0 to 255; the same in the PNG's palette")
    area: int = Field(description="in pixels of the mask")
    bbox: tuple[int, int, int, int] = Field(description="x, y, width, height in pixels of the mask")
    rle: Rle | None = None
    polygons: list[list[list[int]]] | None = Field(
        None,
        description="Each a list of rings, the outer one and then its holes; a ring is x, y, x, y, ... along the edges "
        "of pixels, not closed. Filled by the even-odd rule they are the mask.",
    )
    polygons_left_out: int | None = Field(None, description="smaller polygons beyond max_polygons")


class Segmentation(BaseModel):
    """One image's mask."""

    model_config = ConfigDict(json_schema_extra={"example": _EXAMPLE})

    object: Literal["segmentation"] = "segmentation"
    index: int
    segments: list[Segment] | None = Field(description="of the labels that appear, in their order")
    image: Grid | None = Field(None, description="the upright image's size")
    box: Annotated[
        tuple[float, float, float, float] | None,
        Field(description="left, top, right, bottom of what the encoder saw, in pixels of the upright image"),
    ] = None
    size: Grid | None = Field(None, description="the mask's size")
    unseen: int | None = Field(None, description="pixels outside the box, in no segment; 255 in label maps")
    png: str | None = Field(None, description="base64 of the label map, with format=png")
    error: ItemError | None = None


class SegmentationList(BaseModel):
    """Masks of every image of a request."""

    object: Literal["list"] = "list"
    data: list[Segmentation]
    head: str | None = Field(description="that made them")
    method: Method | None = Field(description="that made them, when no head did")
    model: str
    embedding_space: str
    usage: Usage
