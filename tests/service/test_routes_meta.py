import asyncio

import httpx
import pytest

from bootleg_service.app import create_app

from .fake_engine import DIM, NAME, SPACE, fake_bundle
from .pictures import shade
from .serving import error_of, settings

pytestmark = pytest.mark.anyio


async def get(served, path):
    return await served.client.get(path)


async def test_the_model_is_listed_with_what_a_client_needs_to_know(served):
    (listed,) = (await get(served, "/v1/models")).json()["data"]
    assert (await get(served, f"/v1/models/{NAME}")).json() == listed
    assert listed["id"] == NAME
    assert listed["embedding_space"] == SPACE
    assert listed["dimensions"] == DIM
    assert listed["image_size"] == {"height": 32, "width": 32}
    assert listed["normalized"] is False


async def test_a_model_that_is_not_served_is_404(served):
    response = await get(served, "/v1/models/clip")
    assert response.status_code == 404
    assert error_of(response)["code"] == "model_not_found"


async def test_info_states_bundle_device_and_limits(served):
    body = (await get(served, "/info")).json()
    assert body["model_id"] == NAME
    assert body["model_sha"] == "ab" * 32
    assert (body["device"], body["providers"]) == ("fake", ["FakeExecutionProvider"])
    assert body["max_client_batch_size"] == 32


async def test_a_started_service_is_live_and_ready(served):
    live, ready = await get(served, "/health/live"), await get(served, "/health/ready")
    assert (live.status_code, live.json()) == (200, {"status": "live"})
    assert (ready.status_code, ready.json()) == (200, {"status": "ready"})


async def test_a_service_that_has_not_started_is_not_ready_and_refuses_images():
    app = create_app(fake_bundle(), settings())
    transport = httpx.ASGITransport(app, raise_app_exceptions=False)
    async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
        assert (await client.get("/health/ready")).status_code == 503
        response = await client.post("/v1/images/embeddings", content=shade(1))
    assert response.status_code == 503
    assert error_of(response)["code"] == "unavailable"


async def test_a_draining_service_is_live_but_not_ready(served):
    await served.service.pipeline.close()
    assert (await get(served, "/health/ready")).status_code == 503
    assert (await get(served, "/health/live")).status_code == 200


async def test_a_service_whose_batcher_died_is_neither_live_nor_ready(served):
    served.service.batcher._task.cancel()
    await asyncio.gather(served.service.batcher._task, return_exceptions=True)
    try:
        assert (await get(served, "/health/live")).status_code == 503
        assert (await get(served, "/health/ready")).status_code == 503
    finally:
        served.service.batcher.start()


async def test_metrics_are_in_the_text_format_of_prometheus(served):
    await served.embed(shade(1))
    response = await get(served, "/metrics")
    assert response.headers["content-type"] == "text/plain; version=0.0.4; charset=utf-8"
    labels = 'dialect="native",outcome="ok",route="/v1/images/embeddings",status="200"'
    assert f"bootleg_requests_total{{{labels}}} 1.0" in response.text
    assert f'bootleg_model_info{{device="fake",model="{NAME}",precision="fp32",space="{SPACE}"}} 1.0' in response.text


async def test_the_openapi_document_lists_every_route_with_its_errors(served):
    document = (await get(served, "/openapi.json")).json()
    for path in ("/v1/images/embeddings", "/v1/images/patches", "/v1/embeddings"):
        responses = document["paths"][path]["post"]["responses"]
        assert {"200", "400", "408", "409", "413", "415", "422", "500", "503", "504"} <= set(responses)
