"""The Open Inference Protocol (v2) over HTTP: what Triton's and KServe's clients and meshes speak.

One input: ``images``, BYTES ``[n]``, each an encoded file, decoded here; or ``pixels``, UINT8 ``[n, H, W, 3]``, the
encoder's own input, which goes straight to the batcher. The outputs are the encoder's, as float32.
"""

from __future__ import annotations

import asyncio
import importlib.metadata
from functools import partial
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from fastapi import APIRouter, Request, Response
from pydantic import BaseModel

from bootleg_service import answers, documents
from bootleg_service.admission import admit
from bootleg_service.bodies import read_body
from bootleg_service.dialects.envelopes import OPEN_INFERENCE
from bootleg_service.dialects.tensors import (
    HEADER_LENGTH,
    IMAGES,
    OUTPUTS,
    PIXELS,
    InferBody,
    json_length,
    parse_infer,
    write_answer,
)
from bootleg_service.disconnect import while_connected
from bootleg_service.errors import UnavailableError
from bootleg_service.health import not_live, not_ready, summary
from bootleg_service.json_bodies import LARGE_BYTES
from bootleg_service.respond import respond, rows, settle
from bootleg_service.selection import check_options
from bootleg_service.state import models_of, service_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from bootleg_bundle.errors import BootlegError
    from bootleg_service.batching.ticket import Ticket
    from bootleg_service.pipeline import Answer, Pipeline

router = APIRouter(prefix="/v2", tags=["open inference protocol"])


class InferAnswer(BaseModel):
    """An inference, or its JSON part."""

    id: str | None = None
    model_name: str
    model_version: str
    outputs: list[dict[str, Any]]
    parameters: dict[str, str]


_INFER: Final = documents.of_images(
    InferAnswer, documents.body(InferBody), without=("not_acceptable",), dialect=OPEN_INFERENCE
)
_META: Final = documents.errors("unavailable", "model_not_found", dialect=OPEN_INFERENCE)
_HEALTH: Final = documents.errors("unavailable", dialect=OPEN_INFERENCE)


@router.get("", responses=_HEALTH)
async def server() -> dict[str, Any]:
    """The server's metadata."""
    version = importlib.metadata.version("bootleg-vision")
    return {"name": "bootleg-vision", "version": version, "extensions": ["binary_tensor_data"]}


@router.get("/health/live", responses=_HEALTH)
async def live(request: Request) -> dict[str, bool]:
    """200 while the engine makes progress."""
    if reasons := not_live(models_of(request)):
        raise UnavailableError(f"not live: {summary(reasons)}", retry_after=1)
    return {"live": True}


@router.get("/health/ready", responses=_HEALTH)
async def ready(request: Request) -> dict[str, bool]:
    """200 when requests are welcome."""
    if reasons := not_ready(models_of(request)):
        raise UnavailableError(f"not ready: {summary(reasons)}", retry_after=1)
    return {"ready": True}


@router.get("/models/{model}", responses=_META)
@router.get("/models/{model}/versions/1", include_in_schema=False)
async def model_metadata(request: Request, model: str) -> dict[str, Any]:
    """The model's tensors."""
    service = service_of(request, model)
    shapes, spec = service.bundle.manifest.outputs.row_shapes, service.bundle.manifest.preprocess
    return {
        "name": model,
        "versions": ["1"],
        "platform": "onnxruntime_onnx",
        "inputs": [
            {"name": IMAGES, "datatype": "BYTES", "shape": [-1]},
            {"name": PIXELS, "datatype": "UINT8", "shape": [-1, spec.height, spec.width, 3]},
        ],
        "outputs": [{"name": name, "datatype": "FP32", "shape": [-1, *shapes[name]]} for name in OUTPUTS],
        "parameters": {"embedding_space": service.bundle.manifest.embedding_space},
    }


@router.get("/models/{model}/ready", responses=_META)
@router.get("/models/{model}/versions/1/ready", include_in_schema=False)
async def model_ready(request: Request, model: str) -> dict[str, Any]:
    """200 when requests for the model are welcome."""
    service_of(request, model)
    if reasons := not_ready(models_of(request), model):
        raise UnavailableError(f"not ready: {summary(reasons)}", retry_after=1)
    return {"name": model, "ready": True}


@router.post("/models/{model}/infer", **_INFER)
@router.post("/models/{model}/versions/1/infer", include_in_schema=False)
async def infer(request: Request, model: str) -> Response:
    """Run the encoder on images: on encoded files (``images``), or on its own input (``pixels``), one of the two.

    Ready pixels are computed as they come, past the cache: whoever has them has decoded the image already and can keep
    what came of it.
    """
    service = service_of(request, model)
    service.check_pinned_space(request)
    check_options(request)
    limits, manifest = service.settings.limits, service.bundle.manifest
    raw = await read_body(request, limits.max_body_bytes, limits.receive_seconds)
    length = json_length(raw, request.headers.get(HEADER_LENGTH))
    parse = partial(parse_infer, raw, length, limits, manifest.preprocess)
    body, images = await asyncio.to_thread(parse) if length > LARGE_BYTES else parse()
    ticket = admit(request, len(images))
    found = await while_connected(request, _each(service.pipeline, images, list(body.wanted), ticket))
    for of_output in found:
        settle(of_output, body.inputs[0].name)

    def encode() -> tuple[bytes, dict[str, str]]:
        shapes = manifest.outputs.row_shapes
        chosen = {
            name: rows(of_output, lambda value: value.astype("<f4", copy=False), shapes[name])
            for name, of_output in zip(body.wanted, found, strict=True)
        }
        return write_answer(body, chosen, manifest)

    kind = answers.RAW if any(body.wanted.values()) else answers.JSON
    return await respond(
        encode, [answer for of_output in found for answer in of_output], kind, manifest.embedding_space
    )


async def _each(
    pipeline: Pipeline,
    images: Sequence[bytes | BootlegError] | NDArray[np.uint8],
    outputs: Sequence[str],
    ticket: Ticket,
) -> Sequence[Sequence[Answer | BootlegError]]:
    if isinstance(images, np.ndarray):
        if len(outputs) == 1:
            return [await pipeline.answer_ready(images, outputs[0], ticket)]
        return await asyncio.gather(*(pipeline.answer_ready(images, output, ticket) for output in outputs))
    return await asyncio.gather(*(pipeline.answer_each(images, output, ticket) for output in outputs))
