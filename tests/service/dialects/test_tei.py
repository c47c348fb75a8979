"""Hugging Face's client against a real server."""

import base64

import httpx
import numpy as np
import pytest

from tests.service.fake_engine import embedding_of
from tests.service.pictures import shade, truncated_jpeg

hub = pytest.importorskip("huggingface_hub", reason="huggingface_hub is not installed: pip install -e '.[dev]'")


def unit(vector):
    return vector / np.linalg.norm(vector)


@pytest.mark.parametrize("path", ["", "/", "/embed"])
def test_feature_extraction_is_given_normalised_vectors(server, uri, b64, path):
    client = hub.InferenceClient(model=server.url + path, token="none")
    np.testing.assert_allclose(client.feature_extraction(uri(3)), [unit(embedding_of(3))], rtol=1e-6)
    both = client.feature_extraction([uri(3), b64(1)])
    np.testing.assert_allclose(both, [unit(embedding_of(3)), unit(embedding_of(1))], rtol=1e-6)


def test_vectors_are_left_as_they_are_when_asked(server, uri):
    client = hub.InferenceClient(model=server.url, token="none")
    np.testing.assert_array_equal(client.feature_extraction(uri(3), normalize=False), [embedding_of(3)])


def test_fewer_dimensions(server, uri):
    client = hub.InferenceClient(model=server.url, token="none")
    np.testing.assert_allclose(client.feature_extraction(uri(3), dimensions=2), [unit(embedding_of(3)[:2])], rtol=1e-6)


def test_a_fault_is_the_clients_exception_with_our_message(server):
    client = hub.InferenceClient(model=server.url, token="none")
    with pytest.raises(hub.errors.HfHubHTTPError) as caught:
        client.feature_extraction("https://example.org/a.png")
    assert caught.value.response.status_code == 400
    assert "not fetched from URLs" in caught.value.response.json()["error"]


@pytest.mark.parametrize(
    ("body", "status", "kind", "code"),
    [
        ({"inputs": base64.b64encode(truncated_jpeg()).decode()}, 422, "validation", "corrupt_image"),
        ({"inputs": []}, 400, "validation", "invalid_request"),
        ({}, 400, "validation", "invalid_request"),
        ({"inputs": base64.b64encode(shade(99)).decode()}, 500, "backend", "engine_error"),
    ],
)
def test_faults_have_teis_shape(server, body, status, kind, code):
    server.engine.poison = {99}
    response = httpx.post(f"{server.url}/embed", json=body)
    assert response.status_code == status
    assert set(response.json()) == {"error", "error_type", "code"}
    assert (response.json()["error_type"], response.json()["code"]) == (kind, code)


def test_another_method_is_refused_in_teis_shape(server):
    response = httpx.get(f"{server.url}/embed")
    assert (response.status_code, response.json()["error_type"]) == (405, "validation")


def test_info_has_the_fields_of_tei(server):
    info = httpx.get(f"{server.url}/info").json()
    assert info["model_type"] == {"embedding": {"pooling": "mean"}}
    assert {"model_id", "model_sha", "model_dtype", "max_concurrent_requests", "max_input_length"} <= set(info)
    assert {"max_batch_tokens", "max_batch_requests", "max_client_batch_size", "auto_truncate", "version"} <= set(info)
