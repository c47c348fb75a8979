"""The tensors of the Open Inference Protocol: a request taken apart into images, and outputs put together.

In JSON an image is base64; in the binary tensor extension it is its bytes after the JSON, and outputs follow as
numbers. :mod:`open_inference` has the routes. Sizes and counts are the client's word: none is believed.
"""

from __future__ import annotations

import math
import struct
from typing import TYPE_CHECKING, Annotated, Any, Final, Literal

from pydantic import BaseModel, ConfigDict, Field

from bootleg_service import answers
from bootleg_service.errors import RequestError
from bootleg_service.examples import EXAMPLE_BASE64
from bootleg_service.json_bodies import decode_images, validate

if TYPE_CHECKING:
    from bootleg_bundle.errors import BootlegError
    from bootleg_bundle.manifest import Manifest
    from bootleg_service.answers import Rows
    from bootleg_service.settings import RequestLimits

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


def parse_infer(raw: bytes, header: str | None, limits: RequestLimits) -> tuple[InferBody, list[bytes | BootlegError]]:
    """Read a request.

    Args:
        raw: the whole body.
        header: the length of its JSON part, as ``HEADER_LENGTH`` says; None: all of it.
        limits: how many images, how large.

    Raises:
        RequestError: the JSON, the shape or a length does not fit what was sent.
        ImageFailure: an image that is no base64, or a URL.
    """
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


def write_answer(body: InferBody, chosen: dict[str, Rows], manifest: Manifest) -> tuple[bytes, dict[str, str]]:
    """Write the outputs ``[n, ...]`` by name, each in JSON or behind it; the header says where the JSON ends."""
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
