"""OpenAI's own client against a real server."""

import base64

import numpy as np
import pytest

from tests.service.fake_engine import DIM, NAME, SPACE, embedding_of
from tests.service.pictures import truncated_jpeg

openai = pytest.importorskip("openai", reason="openai is not installed: pip install -e '.[dev]'")


@pytest.fixture
def client(server):
    with openai.OpenAI(base_url=f"{server.url}/v1", api_key="none", max_retries=0) as made:
        yield made


def vectors_of(answer):
    return np.array([row.embedding for row in answer.data], np.float32)


def test_the_client_reads_base64_which_it_asks_for_by_itself(client, uri):
    answer = client.embeddings.create(model=NAME, input=[uri(3), uri(1)])
    np.testing.assert_array_equal(vectors_of(answer), [embedding_of(3), embedding_of(1)])
    assert [row.index for row in answer.data] == [0, 1]
    assert answer.model == NAME
    assert answer.usage.total_tokens == 8


def test_the_client_reads_floats(client, uri):
    answer = client.embeddings.create(model=NAME, input=uri(7), encoding_format="float")
    np.testing.assert_array_equal(vectors_of(answer), [embedding_of(7)])


def test_as_many_images_as_are_allowed_come_back_in_order(client, uri):
    answer = client.embeddings.create(model=NAME, input=[uri(n) for n in range(32)])
    np.testing.assert_array_equal(vectors_of(answer), [embedding_of(n) for n in range(32)])


def test_fewer_dimensions_are_normalised(client, uri):
    answer = client.embeddings.create(model=NAME, input=uri(7), dimensions=3)
    assert vectors_of(answer).shape == (1, 3)
    np.testing.assert_allclose(np.linalg.norm(vectors_of(answer)), 1, rtol=1e-6)


def test_our_options_go_in_the_extra_body(client, uri):
    answer = client.embeddings.create(
        model=NAME, input=uri(7), encoding_format="float", extra_body={"dtype": "int8", "normalize": True}
    )
    assert max(answer.data[0].embedding) == 127


def test_partial_answers_name_the_image_at_fault_in_its_place(client, uri):
    broken = base64.b64encode(truncated_jpeg()).decode()
    answer = client.embeddings.create(
        model=NAME, input=[uri(1), broken, "http://x/y.png"], extra_body={"on_error": "partial"}
    )
    np.testing.assert_array_equal(np.float32(answer.data[0].embedding), embedding_of(1))
    assert [row.embedding for row in answer.data[1:]] == [None, None]
    assert [row.error["code"] for row in answer.data[1:]] == ["corrupt_image", "image_url_refused"]


def test_the_models_are_listed(client):
    (model,) = client.models.list().data
    assert (model.id, model.dimensions) == (NAME, DIM)
    assert client.models.retrieve(NAME) == model


@pytest.mark.parametrize(
    ("arguments", "kind", "code", "param"),
    [
        ({"input": ["https://example.org/a.png"]}, "BadRequestError", "image_url_refused", "input[0]"),
        ({"input": [[1, 2, 3]]}, "BadRequestError", "invalid_request", "input"),
        ({"model": "clip"}, "NotFoundError", "model_not_found", "model"),
        ({"dimensions": DIM + 1}, "BadRequestError", "invalid_request", "dimensions"),
        ({"extra_body": {"layer": 7}}, "BadRequestError", "invalid_request", "layer"),
        (
            {"extra_headers": {"X-Embedding-Space": "es1-" + "0" * 32}},
            "ConflictError",
            "embedding_space_mismatch",
            "X-Embedding-Space",
        ),
        (
            {"input": base64.b64encode(truncated_jpeg()).decode()},
            "UnprocessableEntityError",
            "corrupt_image",
            "input[0]",
        ),
    ],
)
def test_errors_are_the_clients_own_exceptions(client, uri, arguments, kind, code, param):
    with pytest.raises(getattr(openai, kind)) as caught:
        client.embeddings.create(**{"model": NAME, "input": uri(1)} | arguments)
    assert (caught.value.code, caught.value.param) == (code, param)
    assert caught.value.request_id == caught.value.body["request_id"]


def test_a_model_that_fails_is_the_clients_internal_server_error(client, server, uri):
    server.engine.poison = {99}
    with pytest.raises(openai.InternalServerError) as caught:
        client.embeddings.create(model=NAME, input=uri(99))
    assert caught.value.code == "engine_error"
    assert "CUDA" not in str(caught.value)


def test_the_space_is_in_the_raw_headers(client, uri):
    raw = client.embeddings.with_raw_response.create(model=NAME, input=uri(1))
    assert raw.headers["x-embedding-space"] == SPACE
