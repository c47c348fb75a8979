"""Triton's own client against a real server, and the protocol's plain JSON."""

import json
import struct

import httpx
import numpy as np
import pytest

from bootleg_service.examples import EXAMPLE_BASE64
from tests.service.fake_engine import DIM, GRID, NAME, SPACE, embedding_of, patch_tokens_of
from tests.service.pictures import shade, truncated_jpeg

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
    assert model["inputs"] == [{"name": "images", "datatype": "BYTES", "shape": [-1]}]
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


@pytest.mark.parametrize("length", ["-1", "ten", "1e3", "999999999"])
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
        {"inputs": [{"name": "pixels", "shape": [1], "datatype": "BYTES", "data": ["AAAA"]}]},
        {"inputs": [{"name": "images", "shape": [1], "datatype": "FP32", "data": [1.0]}]},
        {"inputs": [{"name": "images", "shape": [1], "datatype": "BYTES"}]},
        {"inputs": [{"name": "images", "shape": [1], "datatype": "BYTES", "data": ["https://x/y.png"]}]},
        {"inputs": [{"name": "images", "shape": [10**30], "datatype": "BYTES", "data": [EXAMPLE_BASE64]}]},
    ],
    ids=["empty", "no inputs", "name", "datatype", "no data", "url", "shape"],
)
def test_other_bodies_are_refused_in_the_protocols_shape(server, body):
    response = httpx.post(f"{server.url}/v2/models/{NAME}/infer", json=body)
    assert response.status_code == 400
    assert set(response.json()) == {"error", "code"}
    assert isinstance(response.json()["error"], str)


def test_a_path_that_is_not_of_the_protocol_is_404_in_its_shape(server):
    response = httpx.get(f"{server.url}/v2/repository/index")
    assert (response.status_code, response.json()["code"]) == (404, "not_found")
