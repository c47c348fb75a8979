"""The Open Inference Protocol (v2) over HTTP: what Triton's and KServe's clients and meshes speak.

One input, ``images``: BYTES ``[n]``, each an encoded file, decoded here. The outputs are the encoder's, as float32. In
JSON an image is base64; in the binary tensor extension it is its bytes, and outputs follow the JSON as numbers.
"""

from __future__ import annotations

import asyncio
import importlib.metadata
import math
import struct
from typing import TYPE_CHECKING, Annotated, Any, Final, Literal

from fastapi import APIRouter, Request, Response
from pydantic import BaseModel, ConfigDict, Field

from bootleg_service import answers, documents
from bootleg_service.dialects.envelopes import OPEN_INFERENCE
from bootleg_service.disconnect import while_connected
from bootleg_service.errors import RequestError, UnavailableError
from bootleg_service.examples import EXAMPLE_BASE64
from bootleg_service.json_bodies import decode_images, read_json, validate
from bootleg_service.respond import respond, rows, settle
from bootleg_service.routes_meta import is_ready, liveness
from bootleg_service.selection import check_options
from bootleg_service.state import service_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from bootleg_bundle.errors import BootlegError
    from bootleg_bundle.manifest import Manifest
    from bootleg_service.answers import Rows
    from bootleg_service.pipeline import Answer, Pipeline
    from bootleg_service.settings import RequestLimits

router = APIRouter(prefix="/v2", tags=["open inference protocol"])

INPUT: Final = "images"
OUTPUTS: Final = ("embedding", "patch_tokens", "layers")
HEADER_LENGTH: Final = "Inference-Header-Content-Length"


class Parameters(BaseModel):
    """Of the binary tensor extension."""

    model_config = ConfigDict(extra="ignore")

    binary_data_size: int | None = Field(None, ge=0)
    binary_data: bool = False
    binary_data_output: bool = False


class InputTensor(BaseModel):
    """The images."""

    name: Literal["images"]
    shape: Annotated[list[Annotated[int, Field(ge=0)]], Field(min_length=1, max_length=2)]
    datatype: Literal["BYTES"]
    parameters: Parameters = Parameters()
    data: list[str] | list[Annotated[list[str], Field(max_length=1)]] | None = Field(
        None, description="base64; absent in the binary form"
    )


class OutputTensor(BaseModel):
    """An output that is wanted."""

    name: Literal["embedding", "patch_tokens", "layers"]
    parameters: Parameters = Parameters()


class InferBody(BaseModel):
    """Body of an inference, or its JSON part."""

    model_config = ConfigDict(
        extra="ignore",
        json_schema_extra={
            "example": {
                "inputs": [{"name": "images", "shape": [1], "datatype": "BYTES", "data": [EXAMPLE_BASE64]}],
                "outputs": [{"name": "embedding"}],
            }
        },
    )

    id: str | None = Field(None, max_length=1000)
    inputs: Annotated[list[InputTensor], Field(min_length=1, max_length=1)]
    outputs: Annotated[list[OutputTensor], Field(max_length=3)] = Field([], description="All of them when absent.")
    parameters: Parameters = Parameters()

    @property
    def wanted(self) -> dict[str, bool]:
        """Outputs by name, and whether each is to be binary."""
        if self.outputs:
            return {output.name: output.parameters.binary_data for output in self.outputs}
        return dict.fromkeys(OUTPUTS, self.parameters.binary_data_output)


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
    if (state := liveness(service_of(request))) != "live":
        raise UnavailableError(f"the service is {state}", retry_after=1)
    return {"live": True}


@router.get("/health/ready", responses=_HEALTH)
async def ready(request: Request) -> dict[str, bool]:
    """200 when requests are welcome."""
    if not is_ready(service_of(request)):
        raise UnavailableError("the service is not ready", retry_after=1)
    return {"ready": True}


@router.get("/models/{model}", responses=_META)
@router.get("/models/{model}/versions/1", include_in_schema=False)
async def model_metadata(request: Request, model: str) -> dict[str, Any]:
    """The model's tensors."""
    service = service_of(request)
    service.check_model(model)
    shapes = service.bundle.manifest.outputs.row_shapes
    return {
        "name": model,
        "versions": ["1"],
        "platform": "onnxruntime_onnx",
        "inputs": [{"name": INPUT, "datatype": "BYTES", "shape": [-1]}],
        "outputs": [{"name": name, "datatype": "FP32", "shape": [-1, *shapes[name]]} for name in OUTPUTS],
        "parameters": {"embedding_space": service.bundle.manifest.embedding_space},
    }


@router.get("/models/{model}/ready", responses=_META)
@router.get("/models/{model}/versions/1/ready", include_in_schema=False)
async def model_ready(request: Request, model: str) -> dict[str, Any]:
    """200 when requests for the model are welcome."""
    service = service_of(request)
    service.check_model(model)
    if not is_ready(service):
        raise UnavailableError("the model is not ready", retry_after=1)
    return {"name": model, "ready": True}


@router.post("/models/{model}/infer", **_INFER)
@router.post("/models/{model}/versions/1/infer", include_in_schema=False)
async def infer(request: Request, model: str) -> Response:
    """Run the encoder on images."""
    service = service_of(request)
    service.check_pinned_space(request)
    service.check_model(model)
    check_options(request)
    limits = service.settings.limits
    header = request.headers.get(HEADER_LENGTH)
    body, images = await read_json(request, limits, lambda raw: _parse(raw, header, limits))
    found = await while_connected(request, _each(service.pipeline, images, list(body.wanted)))
    for of_output in found:
        settle(of_output, INPUT)
    manifest = service.bundle.manifest

    def encode() -> tuple[bytes, dict[str, str]]:
        shapes = manifest.outputs.row_shapes
        chosen = {
            name: rows(of_output, lambda value: value.astype("<f4", copy=False), shapes[name])
            for name, of_output in zip(body.wanted, found, strict=True)
        }
        return _answer(body, chosen, manifest)

    kind = answers.RAW if any(body.wanted.values()) else answers.JSON
    return await respond(
        encode, [answer for of_output in found for answer in of_output], kind, manifest.embedding_space
    )


async def _each(
    pipeline: Pipeline, images: Sequence[bytes | BootlegError], outputs: Sequence[str]
) -> list[list[Answer | BootlegError]]:
    return await asyncio.gather(*(pipeline.answer_each(images, output) for output in outputs))


def _parse(raw: bytes, header: str | None, limits: RequestLimits) -> tuple[InferBody, list[bytes | BootlegError]]:
    length = len(raw)
    if header is not None:
        if not (header.isascii() and header.isdigit() and int(header) <= len(raw)):
            raise RequestError(f"{HEADER_LENGTH}: no number up to the body's {len(raw):,} bytes", param=HEADER_LENGTH)
        length = int(header)
    body = validate(InferBody, raw[:length])
    tensor = body.inputs[0]
    if tensor.parameters.binary_data_size is None:
        if tensor.data is None:
            raise RequestError("inputs: images has neither data nor binary_data_size", param="inputs")
        texts = [text for row in tensor.data for text in ([row] if isinstance(row, str) else row)]
        images = decode_images(texts, limits, INPUT)
    else:
        images = _split(raw[length:], tensor.parameters.binary_data_size, limits)
    if math.prod(tensor.shape) != len(images):
        raise RequestError(f"inputs: the shape is {tensor.shape}, and {len(images)} images were sent", param="inputs")
    return body, images


def _split(raw: bytes, size: int, limits: RequestLimits) -> list[bytes | BootlegError]:
    """Take BYTES elements apart: each is four bytes of length, little-endian, and so many bytes."""
    if size != len(raw):
        raise RequestError(
            f"inputs: binary_data_size is {size}, and {len(raw):,} bytes follow the JSON", param="inputs"
        )
    images: list[bytes | BootlegError] = []
    at = 0
    while at < size:
        if len(images) == limits.max_images:
            raise RequestError(f"inputs: over {limits.max_images} images, which is the limit", param="inputs")
        end = at + 4 + struct.unpack_from("<I", raw, at)[0] if at + 4 <= size else size + 1
        if end > size:
            raise RequestError(f"inputs: element {len(images)} is cut short", param="inputs")
        images.append(raw[at + 4 : end])
        at = end
    if not images:
        raise RequestError("inputs: no images", param="inputs")
    return images


def _answer(body: InferBody, chosen: dict[str, Rows], manifest: Manifest) -> tuple[bytes, dict[str, str]]:
    outputs: list[dict[str, Any]] = []
    tail: list[bytes] = []
    for name, of_output in chosen.items():
        values = of_output.values
        output: dict[str, Any] = {"name": name, "datatype": "FP32", "shape": values.shape}
        if body.wanted[name]:
            tail.append(values.tobytes())
            output["parameters"] = {"binary_data_size": len(tail[-1])}
        else:
            output["data"] = values.reshape(-1)
        outputs.append(output)
    answer: dict[str, Any] = {
        "model_name": manifest.name,
        "model_version": "1",
        "outputs": outputs,
        "parameters": {"embedding_space": manifest.embedding_space},
    }
    if body.id is not None:
        answer["id"] = body.id
    head = answers.to_json(answer)
    return head + b"".join(tail), {HEADER_LENGTH: str(len(head))} if tail else {}
