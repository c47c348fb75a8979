"""Examples against stand-ins of servers that cannot run here, and configurations by which those call the service."""

import asyncio
import base64
import json
import re

import httpx
import numpy as np
import pytest

from .conftest import EXAMPLES
from .serving import listening
from .stand_ins import Indices, Weaviate
from .test_examples import refused


@pytest.mark.parametrize("engine", ["elasticsearch", "opensearch"])
def test_elasticsearch_and_opensearch_take_the_requests(engine, example, same, service, stranger, photos):
    server = Indices(opensearch=engine == "opensearch")
    with listening(server.app) as url:
        options = ["--search", url, "--engine", engine]
        same(example("elasticsearch_search", service, *options))
        refused(example("elasticsearch_search", stranger, *options, fails=True))
    assert len(server.documents["photographs"]) == len(list(photos.rglob("*.jpg")))
    assert server.mappings["photographs"]["_meta"]["embedding_space"].startswith("es1-")


def test_weaviate_is_given_images_and_asks_the_service_itself(example, same, service, stranger, photos):
    server = Weaviate(inference=service)
    asyncio.run(server.start())
    with listening(server.app) as url:
        same(example("weaviate_search", service, "--weaviate", url))
        refused(example("weaviate_search", stranger, "--weaviate", url, fails=True))
    assert len(server.objects) == len(list(photos.rglob("*.jpg")))


def configured(name, service, space, **parameters):
    """A configuration file with its placeholders filled as docs/search says."""
    text = (EXAMPLES / name).read_text(encoding="utf-8")
    assert "http://SERVICE:8000" in text
    assert "es1-WRITE-YOUR-SPACE" in text
    return json.loads(text.replace("http://SERVICE:8000", service).replace("es1-WRITE-YOUR-SPACE", space))


def filled(template, values):
    """``${name}`` replaced, as both servers do in bodies and headers."""
    return re.sub(r"\$\{([\w.]+)\}", lambda place: values[place[1]], template)


@pytest.fixture
def encoded(query):
    return base64.b64encode(query.read_bytes()).decode()


@pytest.fixture
def space(bundle):
    return bundle.manifest.embedding_space


def opensearch_predicts(connector, encoded):
    """What ml-commons does with a connector on ``_predict``."""
    (action,) = connector["actions"]
    assert (action["action_type"], action["method"], connector["protocol"]) == ("predict", "POST", "http")
    values = {f"parameters.{name}": value for name, value in {**connector["parameters"], "image": encoded}.items()}
    values |= {f"credential.{name}": value for name, value in connector["credential"].items()}
    headers = {name: filled(value, values) for name, value in action["headers"].items()}
    return httpx.post(action["url"], content=filled(action["request_body"], values), headers=headers)


def test_opensearchs_connector_calls_the_service(service, space, encoded, nearest, query):
    answer = opensearch_predicts(configured("opensearch_connector.json", service, space), encoded)
    assert answer.status_code == 200, answer.text
    pipeline = json.loads((EXAMPLES / "opensearch_pipeline.json").read_text(encoding="utf-8"))
    mapping = pipeline["processors"][0]["ml_inference"]
    assert mapping["input_map"] == [{"image": "image"}]  # the connector's parameter: the document's field
    assert mapping["output_map"] == [{"vector": "$.embeddings.float[0]"}]
    vector = np.array(answer.json()["embeddings"]["float"][0])
    direct = httpx.post(f"{service}/v1/images/embeddings?normalize=true", content=query.read_bytes()).json()
    np.testing.assert_allclose(vector, direct["data"][0]["embedding"], atol=1e-6)


def elasticsearch_infers(endpoint, encoded):
    """What the ``custom`` service does with an endpoint: input is a JSON list of strings."""
    assert endpoint["service"] == "custom"
    settings = endpoint["service_settings"]
    values = {**settings["secret_parameters"], "input": json.dumps([encoded])}
    headers = {name: filled(value, values) for name, value in settings["headers"].items()}
    return httpx.post(settings["url"], content=filled(settings["request"], values), headers=headers)


def test_elasticsearchs_endpoint_calls_the_service(service, space, encoded, query):
    endpoint = configured("elasticsearch_inference.json", service, space)
    answer = elasticsearch_infers(endpoint, encoded)
    assert answer.status_code == 200, answer.text
    assert endpoint["service_settings"]["response"]["json_parser"] == {"text_embeddings": "$.data[*].embedding[*]"}
    vectors = [one["embedding"] for one in answer.json()["data"]]
    direct = httpx.post(f"{service}/v1/images/embeddings", content=query.read_bytes()).json()["data"]
    np.testing.assert_allclose(vectors, [direct[0]["embedding"]], rtol=1e-5)


def test_both_are_refused_by_a_service_with_another_model(stranger, space, encoded):
    for answer in (
        opensearch_predicts(configured("opensearch_connector.json", stranger, space), encoded),
        elasticsearch_infers(configured("elasticsearch_inference.json", stranger, space), encoded),
    ):
        assert answer.status_code == 409
        assert space in answer.text
