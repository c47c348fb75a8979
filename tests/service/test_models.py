"""Several bundles in one process: each request is answered by the model it names, and says so."""

import asyncio
import base64

import httpx
import numpy as np
import pytest

from bootleg_service.app import create_app
from bootleg_service.errors import StartupError

from .fake_engine import SPACE, FakeEngine, embedding_of, fake_bundle
from .pictures import shade
from .serving import EMBEDDINGS, OPENAI, PATCHES, error_of, settings

pytestmark = pytest.mark.anyio

OTHER_SPACE = "es1-" + "f" * 32
FIRST, SECOND = fake_bundle(), fake_bundle("other", OTHER_SPACE)


class Tenfold(FakeEngine):
    """Told apart from the first model by its answers."""

    def run(self, pixels, outputs):
        return {name: 10 * array for name, array in super().run(pixels, outputs).items()}


@pytest.fixture
async def two():
    engines = {"fake": FakeEngine(), "other": Tenfold()}
    app = create_app([FIRST, SECOND], settings(), open_model=lambda bundle, _: engines[bundle.manifest.name])
    async with app.router.lifespan_context(app):
        transport = httpx.ASGITransport(app, raise_app_exceptions=False)
        async with httpx.AsyncClient(transport=transport, base_url="http://test", timeout=None) as client:
            client.app, client.engines = app, engines
            yield client
            for engine in engines.values():
                engine.release()


def vector(response):
    return np.array(response.json()["data"][0]["embedding"], np.float32)


def base64_of(image):
    return base64.b64encode(image).decode()


async def test_the_first_bundle_answers_requests_that_name_no_model(two):
    answer = await two.post(EMBEDDINGS, content=shade(1))
    assert (answer.json()["model"], answer.headers["X-Embedding-Space"]) == ("fake", SPACE)
    np.testing.assert_array_equal(vector(answer), embedding_of(1))


async def test_each_model_answers_in_its_own_space_on_native_routes(two):
    for path in (EMBEDDINGS, PATCHES, "/v1/images/segment"):
        for name, space in (("fake", SPACE), ("other", OTHER_SPACE)):
            answer = await two.post(path, content=shade(2), params={"model": name})
            assert answer.status_code == 200, answer.text
            assert (answer.json()["model"], answer.json()["embedding_space"]) == (name, space)
            assert answer.headers["X-Embedding-Space"] == space
    answer = await two.post(EMBEDDINGS, content=shade(2), params={"model": "other"})
    np.testing.assert_array_equal(vector(answer), 10 * embedding_of(2))


async def test_the_body_s_model_chooses_in_openai_s_and_cohere_s_dialect(two):
    answer = await two.post(OPENAI, json={"input": base64_of(shade(3)), "model": "other"})
    assert (answer.json()["model"], answer.headers["X-Embedding-Space"]) == ("other", OTHER_SPACE)
    np.testing.assert_array_equal(vector(answer), 10 * embedding_of(3))
    answer = await two.post("/v2/embed", json={"images": [base64_of(shade(3))], "model": "other"})
    assert answer.headers["X-Embedding-Space"] == OTHER_SPACE
    assert two.engines["fake"].numbers == []


async def test_the_path_s_model_chooses_in_the_open_inference_protocol(two):
    body = {"inputs": [{"name": "images", "shape": [1], "datatype": "BYTES", "data": [base64_of(shade(4))]}]}
    answer = await two.post("/v2/models/other/infer", json=body | {"outputs": [{"name": "embedding"}]})
    assert answer.json()["model_name"] == "other"
    np.testing.assert_array_equal(np.float32(answer.json()["outputs"][0]["data"]), 10 * embedding_of(4))
    for name, space in (("fake", SPACE), ("other", OTHER_SPACE)):
        assert (await two.get(f"/v2/models/{name}")).json()["parameters"] == {"embedding_space": space}
        assert (await two.get(f"/v2/models/{name}/ready")).status_code == 200


async def test_dialects_without_a_place_for_a_model_ask_the_default_one(two):
    requests = {
        "/embed": {"inputs": base64_of(shade(5))},
        "/vectors": {"image": base64_of(shade(6))},
        "/vectorize": {"images": [base64_of(shade(7))]},
    }
    for path, body in requests.items():
        assert (await two.post(path, json=body)).headers["X-Embedding-Space"] == SPACE
    assert two.engines["other"].numbers == []


async def test_equal_images_of_two_models_are_never_mistaken_for_each_other(two):
    for _ in range(2):  # the second time from the cache
        for name, factor in (("fake", 1), ("other", 10)):
            answer = await two.post(EMBEDDINGS, content=shade(8), params={"model": name})
            np.testing.assert_array_equal(vector(answer), factor * embedding_of(8))
    assert answer.headers["X-Cache"] == "hit"


async def test_all_models_are_listed_and_described_each_by_its_name(two):
    listed = (await two.get("/v1/models")).json()["data"]
    assert [model["id"] for model in listed] == ["fake", "other"]
    assert (await two.get("/v1/models/other")).json() == listed[1]
    assert (await two.get("/info")).json()["model_id"] == "fake"
    assert (await two.get("/info", params={"model": "other"})).json()["embedding_space"] == OTHER_SPACE


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("POST", EMBEDDINGS + "?model=clip", {"content": shade(1)}),
        ("POST", PATCHES + "?model=clip", {"content": shade(1)}),
        ("POST", "/v1/images/segment?model=clip", {"content": shade(1)}),
        ("POST", OPENAI, {"json": {"input": base64_of(shade(1)), "model": "clip"}}),
        ("POST", "/v2/embed", {"json": {"images": [base64_of(shade(1))], "model": "clip"}}),
        ("POST", "/v2/models/clip/infer", {"json": {}}),
        ("GET", "/v2/models/clip", {}),
        ("GET", "/v2/models/clip/ready", {}),
        ("GET", "/v1/models/clip", {}),
        ("GET", "/info?model=clip", {}),
    ],
)
async def test_an_unknown_model_is_404_and_the_answer_names_those_that_are_served(two, method, path, body):
    answer = await two.request(method, path, **body)
    assert answer.status_code == 404
    assert "model_not_found" in answer.text
    assert "served: 'fake', 'other'" in answer.text


async def test_a_pin_is_held_against_the_model_that_is_asked(two):
    pin = {"X-Embedding-Space": OTHER_SPACE}
    assert (await two.post(EMBEDDINGS, content=shade(1), params={"model": "other"}, headers=pin)).status_code == 200
    body = {"input": base64_of(shade(1))}
    assert (await two.post(OPENAI, json=body | {"model": "other"}, headers=pin)).status_code == 200
    for answer in (
        await two.post(EMBEDDINGS, content=shade(1), headers=pin),
        await two.post(OPENAI, json=body, headers=pin),
        await two.post("/v2/embed", json={"images": [base64_of(shade(1))]}, headers=pin),
    ):
        assert answer.status_code == 409
        assert answer.headers["X-Embedding-Space"] == SPACE
        assert SPACE in answer.text


async def test_one_model_that_fails_makes_the_service_unready_and_the_other_still_answers(two):
    two.app.state.models.find("other").canary.passed = False
    ready = await two.get("/health/ready")
    assert ready.status_code == 503
    (reason,) = ready.json()["reasons"]
    assert (reason["code"], reason["model"]) == ("canary_failed", "other")
    assert (await two.get("/v2/models/fake/ready")).status_code == 200
    assert (await two.get("/v2/models/other/ready")).status_code == 503
    assert (await two.post(EMBEDDINGS, content=shade(1))).status_code == 200


async def test_one_model_that_is_stuck_holds_up_nobody_who_asks_the_other(two):
    two.engines["fake"].hold()
    stuck = asyncio.create_task(two.post(EMBEDDINGS, content=shade(1)))
    assert (await two.post(EMBEDDINGS, content=shade(2), params={"model": "other"})).status_code == 200
    assert not stuck.done()
    two.engines["fake"].release()
    assert (await stuck).status_code == 200


async def test_metrics_tell_the_models_apart(two):
    await two.post(EMBEDDINGS, content=shade(1), params={"model": "other"})
    text = (await two.get("/metrics")).text
    for name in ("fake", "other"):
        assert f'bootleg_queue_items{{model="{name}"}} 0.0' in text
        assert f'bootleg_canary_passed{{model="{name}"}} 1.0' in text


def test_two_bundles_of_one_name_are_refused_at_the_start():
    with pytest.raises(StartupError, match="both named 'fake'"):
        create_app([FIRST, SECOND, fake_bundle()], settings())


async def test_a_second_model_that_cannot_be_loaded_stops_the_start():
    def open_model(bundle, _):
        if bundle is SECOND:
            raise StartupError("device = 'cuda': none")
        return FakeEngine()

    app = create_app([FIRST, SECOND], settings(), open_model=open_model)
    with pytest.raises(StartupError, match="cuda"):
        async with app.router.lifespan_context(app):
            pytest.fail("it started")


async def test_what_is_wrong_with_a_request_is_told_with_the_space_of_the_model_it_names(two):
    answer = await two.post(EMBEDDINGS, content=b"", params={"model": "other"})
    assert error_of(answer)["code"] == "empty_image"
    assert answer.headers["X-Embedding-Space"] == OTHER_SPACE
