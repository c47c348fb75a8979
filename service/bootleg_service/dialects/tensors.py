"""The tensors of the Open Inference Protocol: a request taken apart into images, and outputs put together.

In JSON an image is base64; in the binary tensor extension it is its bytes after the JSON, and outputs follow as
numbers. An image may also come decoded and resized, as the numbers that the encoder takes. :mod:`open_inference` has
the routes. Sizes and counts are the client's word: none is believed.
"""

from __future__ import annotations

import math
import struct
from typing import TYPE_CHECKING, Annotated, Any, Final, Literal, TypeVar

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from bootleg_service import answers
from bootleg_service.errors import RequestError
from bootleg_service.examples import EXAMPLE_BASE64
from bootleg_service.json_bodies import MAX_JSON_MARKS, decode_images, validate

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from bootleg_bundle import PreprocessSpec
    from bootleg_bundle.errors import BootlegError
    from bootleg_bundle.manifest import Manifest
    from bootleg_service.answers import Rows
    from bootleg_service.settings import RequestLimits

IMAGES: Final = "images"
PIXELS: Final = "pixels"
OUTPUTS: Final = ("embedding", "patch_tokens", "layers")
HEADER_LENGTH: Final = "Inference-Header-Content-Length"


class Parameters(BaseModel):
    """Of the binary tensor extension."""

    model_config = ConfigDict(extra="ignore")

    binary_data_size: int | None = Field(None, ge=0)
    binary_data: bool = False
    binary_data_output: bool = False


Shape = list[Annotated[int, Field(ge=0)]]
T = TypeVar("T")
# Of a million wrong elements one is told.
Elements = Annotated[list[T], Field(fail_fast=True)]
Channel = Annotated[int, Field(strict=True, ge=0, le=255)]


class EncodedImages(BaseModel):
    """Encoded files, decoded and resized here."""

    name: Literal["images"]
    shape: Annotated[Shape, Field(min_length=1, max_length=2)]
    datatype: Literal["BYTES"]
    parameters: Parameters = Field(default_factory=Parameters)
    data: Elements[str] | Elements[Annotated[list[str], Field(max_length=1)]] | None = Field(
        None, description="base64; absent in the binary form"
    )


class Pixels(BaseModel):
    """The encoder's own input ``[n, height, width, 3]``: upright RGB, cropped and resized as GET /v1/models says."""

    name: Literal["pixels"]
    shape: Annotated[Shape, Field(min_length=4, max_length=4)]
    datatype: Literal["UINT8"]
    parameters: Parameters = Field(default_factory=Parameters)
    data: Elements[Channel] | Elements[Elements[Elements[Elements[Channel]]]] | None = Field(
        None, description="row-major, flat or nested; absent in the binary form"
    )


class OutputTensor(BaseModel):
    """An output that is wanted."""

    name: Literal["embedding", "patch_tokens", "layers"]
    parameters: Parameters = Field(default_factory=Parameters)


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
    inputs: Annotated[
        list[Annotated[EncodedImages | Pixels, Field(discriminator="name")]], Field(min_length=1, max_length=1)
    ]
    outputs: Annotated[list[OutputTensor], Field(max_length=3)] = Field([], description="All of them when absent.")
    parameters: Parameters = Field(default_factory=Parameters)

    @property
    def wanted(self) -> dict[str, bool]:
        """Outputs by name, and whether each is to be binary."""
        if self.outputs:
            return {output.name: output.parameters.binary_data for output in self.outputs}
        return dict.fromkeys(OUTPUTS, self.parameters.binary_data_output)


def json_length(raw: bytes, header: str | None) -> int:
    """How long the JSON part of a body is, as the ``HEADER_LENGTH`` header says; without it, all of it.

    Raises:
        RequestError: that is no number, or more than there is.
    """
    if header is None:
        return len(raw)
    # Python reads no number of over 4,300 digits; 10 are over any body.
    if not (header.isascii() and header.isdigit() and len(header) <= 10 and int(header) <= len(raw)):
        raise RequestError(f"{HEADER_LENGTH}: no number up to the body's {len(raw):,} bytes", param=HEADER_LENGTH)
    return int(header)


def parse_infer(
    raw: bytes, length: int, limits: RequestLimits, spec: PreprocessSpec
) -> tuple[InferBody, list[bytes | BootlegError] | NDArray[np.uint8]]:
    """Read a request.

    Args:
        raw: the whole body.
        length: of its JSON part.
        limits: how many images, how large.
        spec: what ready pixels must look like.

    Returns:
        The JSON part, and encoded files or ready pixels ``[n, H, W, 3]``.

    Raises:
        RequestError: the JSON, the shape or a length does not fit what was sent.
        ImageFailure: an image that is no base64, or a URL.
    """
    numbers = limits.max_images * spec.height * spec.width * 3
    body = validate(InferBody, raw[:length], marks=MAX_JSON_MARKS + numbers if b'"pixels"' in raw[:length] else None)
    tensor = body.inputs[0]
    if isinstance(tensor, Pixels):
        return body, _pixels(tensor, raw[length:], limits, spec)
    return body, _encoded(tensor, raw[length:], limits)


def _encoded(tensor: EncodedImages, tail: bytes, limits: RequestLimits) -> list[bytes | BootlegError]:
    if tensor.parameters.binary_data_size is None:
        if tensor.data is None:
            raise RequestError("inputs: images has neither data nor binary_data_size", param="inputs")
        texts = [text for row in tensor.data for text in ([row] if isinstance(row, str) else row)]
        images = decode_images(texts, limits, IMAGES)
    else:
        _check_size(tensor.parameters.binary_data_size, tail)
        images = _split(tail, limits)
    if math.prod(tensor.shape) != len(images):
        raise RequestError(f"inputs: the shape is {tensor.shape}, and {len(images)} images were sent", param="inputs")
    return images


def _pixels(tensor: Pixels, tail: bytes, limits: RequestLimits, spec: PreprocessSpec) -> NDArray[np.uint8]:
    """Ready pixels; of the binary form, a view of the body."""
    count, *image = tensor.shape
    if image != [spec.height, spec.width, 3] or not 0 < count <= limits.max_images:
        raise RequestError(
            f"inputs: the shape of pixels is {tensor.shape}; this model takes [n, {spec.height}, {spec.width}, 3] "
            f"with n from 1 to {limits.max_images}",
            param="inputs",
        )
    if tensor.parameters.binary_data_size is not None:
        _check_size(tensor.parameters.binary_data_size, tail)
        values = np.frombuffer(tail, np.uint8)
    elif tensor.data is None:
        raise RequestError("inputs: pixels has neither data nor binary_data_size", param="inputs")
    else:
        try:
            values = np.array(tensor.data, np.uint8)
        except ValueError:
            raise RequestError("inputs: pixels has rows of different lengths", param="inputs") from None
    if values.size != math.prod(tensor.shape):
        raise RequestError(
            f"inputs: the shape of pixels is {tensor.shape}, and {values.size:,} numbers were sent", param="inputs"
        )
    return values.reshape(tensor.shape)


def _check_size(size: int, tail: bytes) -> None:
    if size != len(tail):
        raise RequestError(
            f"inputs: binary_data_size is {size}, and {len(tail):,} bytes follow the JSON", param="inputs"
        )


def _split(raw: bytes, limits: RequestLimits) -> list[bytes | BootlegError]:
    """Take BYTES elements apart: each is four bytes of length, little-endian, and so many bytes."""
    images: list[bytes | BootlegError] = []
    at = 0
    while at < len(raw):
        if len(images) == limits.max_images:
            raise RequestError(f"inputs: over {limits.max_images} images, which is the limit", param="inputs")
        end = at + 4 + struct.unpack_from("<I", raw, at)[0] if at + 4 <= len(raw) else len(raw) + 1
        if end > len(raw):
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
