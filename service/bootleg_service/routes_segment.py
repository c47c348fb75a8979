"""The route that answers masks. It reads, asks the pipeline, and encodes; :mod:`bootleg_service.masks` makes them."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Annotated, Any, Final

from fastapi import APIRouter, Query, Request, Response

from bootleg_bundle.errors import BootlegError
from bootleg_bundle.images import stored_pixels
from bootleg_service import documents
from bootleg_service.admission import admit
from bootleg_service.answers import JSON, NPY
from bootleg_service.bodies import read_images
from bootleg_service.disconnect import while_connected
from bootleg_service.errors import RequestError
from bootleg_service.masks import answers
from bootleg_service.masks.maker import MaskMaker
from bootleg_service.masks.options import PNG, read_options
from bootleg_service.masks.schemas import SegmentationList, SegmentOptions
from bootleg_service.respond import respond, settle
from bootleg_service.selection import check_options
from bootleg_service.state import service_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from bootleg_service.masks.options import MaskRequest

router = APIRouter(tags=["images"])

_BINARY: Final = {kind: {"schema": {"type": "string", "format": "binary"}} for kind in (PNG, NPY)}


def _documented() -> dict[str, Any]:
    arguments = documents.of_images(SegmentationList, documents.IMAGE_BODY)
    arguments["responses"][200]["content"] = _BINARY
    return arguments


@router.post("/v1/images/segment", **_documented())
async def segment(request: Request, options: Annotated[SegmentOptions, Query()]) -> Response:
    """Masks of one image or several: by a trained ``head``, or label-free from the patch tokens.

    A mask covers the centre box that the encoder saw; at ``size=original`` the rest of the upright image is unseen: in
    no segment, and 255 in label maps. ``Accept`` and ``format`` choose COCO RLE, polygons, a palette PNG (one image) or
    ``.npy`` (uint8 ``[n, h, w]``; of several images not at their original sizes).
    """
    service = service_of(request, options.model)
    service.check_pinned_space(request)
    check_options(request, SegmentOptions)
    manifest, limits = service.bundle.manifest, service.settings.masks
    asked, wire = read_options(options, request.headers.get("accept", ""), manifest)
    partial = options.on_error == "partial"
    if partial and wire != JSON:
        raise RequestError(f"on_error: {wire} has no place for an error; take JSON", param="on_error")
    images = await read_images(request, service.settings.limits, partial=partial)
    _check_count(len(images), asked, wire)
    if asked.size == "original":
        await asyncio.to_thread(_check_pixels, images, limits.max_pixels)
    maker = MaskMaker(asked, manifest, service.masks, max_vertices=limits.max_vertices)
    ticket = admit(request, len(images))
    found = await while_connected(request, service.pipeline.answer_each(images, maker, ticket))
    settle(found, "images", partial=partial)
    return await respond(lambda: answers.encode(found, asked, wire, manifest), found, wire, manifest.embedding_space)


def _check_count(images: int, asked: MaskRequest, wire: str) -> None:
    if images > 1 and wire == PNG:
        raise RequestError(f"images: {images} files; {PNG} holds one mask; take JSON, or npy", param="images")
    if images > 1 and wire == NPY and asked.size == "original":
        raise RequestError(
            f"images: {images} files; an .npy holds masks of one size; take JSON, or size=input", param="images"
        )


def _check_pixels(images: Sequence[bytes | BootlegError], limit: int) -> None:
    """Refuse masks that are too large before anything is decoded."""
    pixels = 0
    for image in images:
        if isinstance(image, bytes):
            try:
                pixels += stored_pixels(image)
            except BootlegError:  # decoding says better what is wrong with it
                continue
    if pixels > limit:
        raise RequestError(
            f"size: masks of original size would have {pixels:,} pixels; the limit is {limit:,}; take size=input",
            param="size",
        )
