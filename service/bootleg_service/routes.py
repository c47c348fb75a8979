"""The native routes that take images. Each reads, asks the pipeline, and encodes; nothing more."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query, Request, Response

from bootleg_service import answers, documents
from bootleg_service.admission import admit
from bootleg_service.bodies import read_images
from bootleg_service.disconnect import while_connected
from bootleg_service.errors import RequestError
from bootleg_service.respond import binary, respond, rows, settle
from bootleg_service.schemas import EmbeddingList, EmbeddingOptions, PatchOptions, PatchTokensList
from bootleg_service.selection import Selection, check_options, embeddings, select
from bootleg_service.state import service_of
from bootleg_service.vectors import FLOATS

router = APIRouter(tags=["images"])


@router.post(
    "/v1/images/embeddings",
    **documents.of_images(EmbeddingList, documents.IMAGE_BODY, binary=True),
)
async def image_embeddings(request: Request, options: Annotated[EmbeddingOptions, Query()]) -> Response:
    """Embed one image sent as the raw body, or several sent as multipart files named ``images``.

    ``Accept`` chooses JSON, ``.npy`` (``[n, D]``) or raw little-endian numbers.
    """
    service = service_of(request, options.model)
    service.check_pinned_space(request)
    check_options(request, EmbeddingOptions)
    wire = answers.negotiate(request.headers.get("accept", ""))
    selection = select(service, request, options)
    partial = options.on_error == "partial"
    if partial and wire != answers.JSON and options.dtype not in FLOATS:
        raise RequestError(
            f"on_error: {options.dtype} has no number for an image at fault; take JSON, or one of {', '.join(FLOATS)}",
            param="on_error",
        )
    images = await read_images(request, service.settings.limits, partial=partial)
    ticket = admit(request, len(images))
    found = await while_connected(request, service.pipeline.answer_each(images, selection.output, ticket))
    settle(found, "images", partial=partial)

    def encode() -> tuple[bytes, dict[str, str]]:
        chosen = embeddings(found, options, selection)
        if wire != answers.JSON:
            return binary(chosen, wire)
        return answers.embedding_list(chosen, selection, options.encoding_format, options.dtype), {}

    return await respond(encode, found, wire, selection.space, cache=service.responses, form=options)


@router.post(
    "/v1/images/patches",
    **documents.of_images(PatchTokensList, documents.IMAGE_BODY, binary=True),
)
async def image_patches(request: Request, options: Annotated[PatchOptions, Query()]) -> Response:
    """Patch tokens (dense features) of one image or several: a grid of vectors for each.

    ``Accept`` chooses JSON with base64 payloads, ``.npy`` (``[n, gh, gw, D]``) or raw little-endian numbers.
    Computed and kept in float16; float32 is the same numbers, widened.
    """
    service = service_of(request, options.model)
    check_options(request, PatchOptions)
    wire = answers.negotiate(request.headers.get("accept", ""))
    selection = Selection(service.bundle.manifest, options.layer)
    service.check_pinned_space(request, selection.grid_space)
    partial = options.on_error == "partial"
    images = await read_images(request, service.settings.limits, partial=partial)
    ticket = admit(request, len(images))
    found = await while_connected(request, service.pipeline.answer_each(images, selection.grid_output, ticket))
    settle(found, "images", partial=partial)

    def encode() -> tuple[bytes, dict[str, str]]:
        shape = selection.manifest.outputs.row_shapes["patch_tokens"]
        chosen = rows(found, selection.grid, shape)
        values = chosen.values.astype("<f2" if options.dtype == "float16" else "<f4", copy=False)
        chosen = answers.Rows(values, chosen.faults)
        return binary(chosen, wire) if wire != answers.JSON else (answers.patch_list(chosen, selection), {})

    return await respond(encode, found, wire, selection.grid_space, cache=service.responses, form=options)
