"""Cohere's own SDK against a real server."""

import base64

import httpx
import numpy as np
import pytest

from bootleg_service.vectors import quantise
from tests.service.fake_engine import DIM, NAME, embedding_of
from tests.service.pictures import truncated_jpeg

cohere = pytest.importorskip("cohere", reason="cohere is not installed: pip install -e '.[dev]'")


@pytest.fixture
def client(server):
    with httpx.Client() as transport:
        yield cohere.ClientV2(api_key="none", base_url=server.url, httpx_client=transport)


def unit(*numbers):
    return np.stack([embedding_of(n) / np.linalg.norm(embedding_of(n)) for n in numbers])


def test_images_come_back_as_normalised_floats(client, uri):
    answer = client.embed(model=NAME, input_type="image", images=[uri(3), uri(1)], embedding_types=["float"])
    np.testing.assert_allclose(answer.embeddings.float_, unit(3, 1), rtol=1e-6)
    assert answer.meta.billed_units.images == 2


def test_floats_are_the_default(client, uri):
    answer = client.embed(model=NAME, input_type="image", images=[uri(3)])
    np.testing.assert_allclose(answer.embeddings.float_, unit(3), rtol=1e-6)


def test_every_type_comes_in_one_answer(client, uri):
    types = ["float", "int8", "uint8", "binary", "ubinary", "base64"]
    answer = client.embed(model=NAME, input_type="image", images=[uri(3)], embedding_types=types).embeddings
    vectors = np.float32(unit(3))
    for name in ("int8", "uint8", "binary", "ubinary"):
        np.testing.assert_array_equal(getattr(answer, name), quantise(vectors, name))
    (text,) = answer.base64
    np.testing.assert_allclose(np.frombuffer(base64.b64decode(text), "<f4"), vectors[0], rtol=1e-6)


def test_inputs_of_one_image_each_are_taken(client, uri):
    inputs = [{"content": [{"type": "image_url", "image_url": {"url": uri(n)}}]} for n in (5, 2)]
    answer = client.embed(model=NAME, input_type="image", inputs=inputs, output_dimension=4)
    heads = unit(5, 2)[:, :4]
    np.testing.assert_allclose(
        answer.embeddings.float_, heads / np.linalg.norm(heads, axis=1, keepdims=True), rtol=1e-6
    )


@pytest.mark.parametrize(
    ("changed", "error", "says"),
    [
        ({"images": ["https://example.org/a.png"]}, "BadRequestError", "not fetched from URLs"),
        ({"images": None, "texts": ["a cat"]}, "BadRequestError", "texts"),
        ({"images": None}, "BadRequestError", "exactly one"),
        ({"output_dimension": DIM + 1}, "BadRequestError", "output_dimension"),
        ({"embedding_types": ["int4"]}, "BadRequestError", "embedding_types"),
        ({"model": "embed-v4.0"}, "NotFoundError", NAME),
        (
            {"images": [base64.b64encode(truncated_jpeg()).decode()]},
            "UnprocessableEntityError",
            "truncated",
        ),
    ],
)
def test_faults_are_the_sdks_exceptions_in_its_shape(client, uri, changed, error, says):
    arguments = {"model": NAME, "input_type": "image", "images": [uri(1)]} | changed
    with pytest.raises(getattr(cohere, error)) as caught:
        client.embed(**{name: value for name, value in arguments.items() if value is not None})
    assert says in caught.value.body["message"]
    assert set(caught.value.body) == {"message", "code"}
