"""The requests that Weaviate's modules send, field for field as their Go clients write and read them."""

import base64

import httpx
import numpy as np
import pytest

from tests.service.fake_engine import DIM, embedding_of
from tests.service.pictures import truncated_jpeg


def test_img2vec_is_given_one_vector(server, b64):
    response = httpx.post(f"{server.url}/vectors", json={"id": "4711", "image": b64(3)})
    body = response.json()
    assert (response.status_code, body["id"], body["dim"]) == (200, "4711", DIM)
    np.testing.assert_array_equal(np.float32(body["vector"]), embedding_of(3))


@pytest.mark.parametrize("texts", [None, []])
def test_multi2vec_is_given_the_vectors_of_its_images(server, b64, texts):
    response = httpx.post(f"{server.url}/vectorize", json={"texts": texts, "images": [b64(3), b64(1)]})
    assert response.json()["textVectors"] == []
    np.testing.assert_array_equal(np.float32(response.json()["imageVectors"]), [embedding_of(3), embedding_of(1)])


@pytest.mark.parametrize(
    ("path", "body", "status", "says"),
    [
        ("/vectorize", {"texts": ["a cat"], "images": []}, 400, "takes images only"),
        ("/vectorize", {"texts": None, "images": None}, 400, "0 images"),
        ("/vectorize", {"images": ["http://x/y.png"]}, 400, "not fetched from URLs"),
        ("/vectors", {"id": "1", "image": "file:///etc/passwd"}, 400, "not fetched from URLs"),
        ("/vectors", {"id": "1"}, 400, "image"),
        ("/vectors", {"image": base64.b64encode(truncated_jpeg()).decode()}, 422, "image[0]: the JPEG"),
    ],
)
def test_faults_are_a_string_where_the_clients_look_for_it(server, path, body, status, says):
    response = httpx.post(server.url + path, json=body)
    assert response.status_code == status
    assert says in response.json()["error"]


def test_weaviate_waits_for_readiness_and_reads_the_meta(server):
    assert httpx.get(f"{server.url}/.well-known/ready").status_code == 204
    assert httpx.get(f"{server.url}/.well-known/live").status_code == 204
    assert httpx.get(f"{server.url}/meta").json()["dimensions"] == DIM
