"""Triton's own client against a real server, and the protocol's plain JSON."""

import json
import struct

import httpx
import numpy as np
import pytest

from bootleg_bundle.images import decode
from bootleg_bundle.preprocess import PreprocessSpec, apply
from bootleg_service.examples import EXAMPLE_BASE64
from tests.service.fake_engine import DIM, GRID, NAME, SPACE, embedding_of, patch_tokens_of
from tests.service.pictures import SIDE, shade, truncated_jpeg

triton = pytest.importorskip("tritonclient.http", reason="tritonclient is not installed: pip install -e '.[dev]'")
InferenceServerException = pytest.importorskip("tritonclient.utils").InferenceServerException


@pytest.fixture
def client(server):
    made = triton.InferenceServerClient(server.host)
    yield made
    made.close()


def images(*numbers):
    tensor = triton.InferInput("images", [len(numbers)], "BYTES")
    tensor.set_data_from_numpy(np.array([shade(number) for number in numbers], np.object_))
    return [tensor]


def test_the_server_and_its_model_are_live_ready_and_described(client):
    assert client.is_server_live()
    assert client.is_server_ready()
    assert client.is_model_ready(NAME)
    assert client.is_model_ready(NAME, "1")
    assert not client.is_model_ready("clip")
    assert client.get_server_metadata()["extensions"] == ["binary_tensor_data"]
    model = client.get_model_metadata(NAME)
    assert model["inputs"] == [
        {"name": "images", "datatype": "BYTES", "shape": [-1]},
        {"name": "pixels", "datatype": "UINT8", "shape": [-1, SIDE, SIDE, 3]},
    ]
    assert {"name": "embedding", "datatype": "FP32", "shape": [-1, DIM]} in model["outputs"]


def test_encoded_images_go_in_and_every_output_comes_back_in_binary(client):
    answer = client.infer(NAME, images(3, 1))
    np.testing.assert_array_equal(answer.as_numpy("embedding"), [embedding_of(3), embedding_of(1)])
    np.testing.assert_array_equal(answer.as_numpy("patch_tokens"), [patch_tokens_of(3), patch_tokens_of(1)])
    assert answer.as_numpy("patch_tokens").shape == (2, *GRID, DIM)
    assert answer.as_numpy("layers").shape == (2, 1, DIM)
    assert answer.get_response()["parameters"] == {"embedding_space": SPACE}


@pytest.mark.parametrize("binary", [True, False])
def test_only_the_outputs_that_are_named_come_back(client, binary):
    wanted = [triton.InferRequestedOutput("embedding", binary_data=binary)]
    answer = client.infer(NAME, images(5), outputs=wanted, request_id="mine")
    np.testing.assert_array_equal(answer.as_numpy("embedding"), [embedding_of(5)])
    assert answer.as_numpy("layers") is None
    assert answer.get_response()["id"] == "mine"


@pytest.mark.parametrize("flat", [True, False])
def test_json_takes_base64(server, b64, flat):
    data = [b64(3), b64(1)] if flat else [[b64(3)], [b64(1)]]
    tensor = {"name": "images", "shape": [2] if flat else [2, 1], "datatype": "BYTES", "data": data}
    response = httpx.post(
        f"{server.url}/v2/models/{NAME}/infer", json={"inputs": [tensor], "outputs": [{"name": "embedding"}]}
    )
    (output,) = response.json()["outputs"]
    assert (output["shape"], output["datatype"]) == ([2, DIM], "FP32")
    np.testing.assert_array_equal(np.float32(output["data"]).reshape(2, DIM), [embedding_of(3), embedding_of(1)])


def ready(*numbers):
    return np.stack([apply(PreprocessSpec(height=SIDE, width=SIDE), decode(shade(number))) for number in numbers])


@pytest.mark.parametrize("binary", [True, False])
def test_ready_pixels_go_past_decode_and_cache(client, server, binary):
    tensor = triton.InferInput("pixels", [2, SIDE, SIDE, 3], "UINT8")
    tensor.set_data_from_numpy(ready(3, 1), binary_data=binary)
    wanted = [triton.InferRequestedOutput("embedding", binary_data=binary)]
    server.engine.numbers.clear()
    for _ in range(2):
        answer = client.infer(NAME, [tensor], outputs=wanted)
        np.testing.assert_array_equal(answer.as_numpy("embedding"), [embedding_of(3), embedding_of(1)])
    assert server.engine.numbers == [3, 1, 3, 1]  # computed both times


def test_ready_pixels_may_be_nested_in_json(server):
    data = ready(4).tolist()
    tensor = {"name": "pixels", "shape": [1, SIDE, SIDE, 3], "datatype": "UINT8", "data": data}
    response = httpx.post(
        f"{server.url}/v2/models/{NAME}/infer", json={"inputs": [tensor], "outputs": [{"name": "embedding"}]}
    )
    (output,) = response.json()["outputs"]
    np.testing.assert_array_equal(np.float32(output["data"]).reshape(1, DIM), [embedding_of(4)])


PIXELS = SIDE * SIDE * 3


@pytest.mark.parametrize(
    ("shape", "data", "says"),
    [
        ([1, SIDE, SIDE + 1, 3], [0] * PIXELS, f"takes [n, {SIDE}, {SIDE}, 3]"),
        ([1, 3, SIDE, SIDE], [0] * PIXELS, f"takes [n, {SIDE}, {SIDE}, 3]"),
        ([0, SIDE, SIDE, 3], [], "n from 1 to 32"),
        ([33, SIDE, SIDE, 3], [0], "n from 1 to 32"),
        ([1, SIDE, SIDE, 3], [0] * (PIXELS - 1), f"{PIXELS - 1:,} numbers were sent"),
        ([1, SIDE, SIDE, 3], [[[[0], [0, 0]]]], "different lengths"),
        ([1, SIDE, SIDE, 3], [256] * PIXELS, "less than or equal to 255"),
        ([1, SIDE, SIDE, 3], [-1] * PIXELS, "greater than or equal to 0"),
        ([1, SIDE, SIDE, 3], ["0"] * PIXELS, "integer"),
        ([1, SIDE, SIDE, 3], None, "neither data nor binary_data_size"),
    ],
    ids=["wide", "planar", "none", "too many", "short", "ragged", "256", "negative", "text", "no data"],
)
def test_pixels_that_are_not_the_models_input_are_refused(server, shape, data, says):
    tensor = {"name": "pixels", "shape": shape, "datatype": "UINT8", "data": data}
    response = httpx.post(f"{server.url}/v2/models/{NAME}/infer", json={"inputs": [tensor]})
    assert response.status_code == 400
    assert says in response.json()["error"]
    assert server.engine.batches == []


def test_binary_pixels_are_counted(server):
    tensor = {"name": "pixels", "shape": [2, SIDE, SIDE, 3], "datatype": "UINT8"}
    head = json.dumps({"inputs": [{**tensor, "parameters": {"binary_data_size": PIXELS}}]}).encode()
    response = httpx.post(
        f"{server.url}/v2/models/{NAME}/infer",
        content=head + bytes(PIXELS),
        headers={"Inference-Header-Content-Length": str(len(head))},
    )
    assert response.status_code == 400
    assert f"{PIXELS:,} numbers were sent" in response.json()["error"]


def test_a_fault_is_the_clients_exception(client):
    tensor = triton.InferInput("images", [1], "BYTES")
    tensor.set_data_from_numpy(np.array([truncated_jpeg()], np.object_))
    with pytest.raises(InferenceServerException, match="truncated") as caught:
        client.infer(NAME, [tensor])
    assert caught.value.status() == "422"
    with pytest.raises(InferenceServerException, match="not served here"):
        client.infer("clip", images(1))


def tensor(size, shape=(1,)):
    return {"name": "images", "shape": list(shape), "datatype": "BYTES", "parameters": {"binary_data_size": size}}


@pytest.mark.parametrize(
    ("tail", "size", "shape", "says"),
    [
        (struct.pack("<I", 100) + b"short", None, (1,), "cut short"),
        (b"\x01\x00", None, (1,), "cut short"),
        (struct.pack("<I", 2**32 - 1), None, (1,), "cut short"),
        (struct.pack("<I", 0) * 33, None, (33,), "over 32 images"),
        (struct.pack("<I", 1) + b"x", 4, (1,), "binary_data_size"),
        (struct.pack("<I", 1) + b"x", None, (2,), "shape"),
        (b"", None, (0,), "no images"),
    ],
    ids=["cut", "no length", "huge length", "too many", "other size", "other shape", "none"],
)
def test_binary_tensors_are_taken_apart_with_care(server, tail, size, shape, says):
    head = json.dumps({"inputs": [tensor(len(tail) if size is None else size, shape)]}).encode()
    response = httpx.post(
        f"{server.url}/v2/models/{NAME}/infer",
        content=head + tail,
        headers={"Inference-Header-Content-Length": str(len(head))},
    )
    assert response.status_code == 400
    assert says in response.json()["error"]
    assert server.engine.batches == []


@pytest.mark.parametrize("length", ["-1", "ten", "1e3", "999999999", "9" * 5000])
def test_a_header_length_that_cannot_be_is_refused(server, length):
    response = httpx.post(
        f"{server.url}/v2/models/{NAME}/infer",
        content=b"{}",
        headers={"Inference-Header-Content-Length": length},
    )
    assert response.status_code == 400
    assert "Inference-Header-Content-Length" in response.json()["error"]


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"inputs": []},
        {"inputs": [{"name": "frames", "shape": [1], "datatype": "BYTES", "data": ["AAAA"]}]},
        {"inputs": [{"name": "pixels", "shape": [1], "datatype": "BYTES", "data": ["AAAA"]}]},
        {"inputs": [{"name": "pixels", "shape": [1, SIDE, SIDE, 3], "datatype": "FP32", "data": [0.5]}]},
        {"inputs": [{"name": "images", "shape": [1], "datatype": "FP32", "data": [1.0]}]},
        {"inputs": [{"name": "images", "shape": [1], "datatype": "BYTES"}]},
        {"inputs": [{"name": "images", "shape": [1], "datatype": "BYTES", "data": ["https://x/y.png"]}]},
        {"inputs": [{"name": "images", "shape": [10**30], "datatype": "BYTES", "data": [EXAMPLE_BASE64]}]},
    ],
    ids=["empty", "no inputs", "name", "pixels as files", "pixels as floats", "datatype", "no data", "url", "shape"],
)
def test_other_bodies_are_refused_in_the_protocols_shape(server, body):
    response = httpx.post(f"{server.url}/v2/models/{NAME}/infer", json=body)
    assert response.status_code == 400
    assert set(response.json()) == {"error", "code"}
    assert isinstance(response.json()["error"], str)


def test_a_path_that_is_not_of_the_protocol_is_404_in_its_shape(server):
    response = httpx.get(f"{server.url}/v2/repository/index")
    assert (response.status_code, response.json()["code"]) == (404, "not_found")
