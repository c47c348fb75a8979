"""Readiness and liveness say what is true: each way of being unwell, and that it passes."""

import httpx
import pytest

from bootleg_service.app import create_app
from tests import bundles, images

from .pictures import shade
from .serving import EMBEDDINGS, serving, settings

pytestmark = pytest.mark.anyio


async def ready(served):
    return (await served.client.get("/health/ready")).status_code


async def live(served):
    return (await served.client.get("/health/live")).status_code


async def test_a_model_that_fails_on_everything_turns_readiness_red_until_it_was_seen_to_work(engine):
    async with serving(engine, batch__max_failures=3) as served:
        engine.broken = True
        for number in range(3):
            assert (await served.embed(shade(number))).status_code == 500
        assert await ready(served) == 503
        refused = await served.embed(shade(9))
        assert refused.status_code == 503
        assert int(refused.headers["retry-after"]) >= 1
        assert await live(served) == 200, "a new process would fail as well"
        engine.broken = False
        await served.service.canary.look()
        assert await ready(served) == 200
        assert (await served.embed(shade(9))).status_code == 200


async def test_a_model_that_answers_its_golden_images_wrongly_turns_readiness_red_until_it_does_not(served):
    served.engine.golden = False
    await served.service.canary.look()
    assert await ready(served) == 503
    assert await live(served) == 200
    served.engine.golden = True
    await served.service.canary.look()
    assert await ready(served) == 200


async def test_a_bundle_whose_folder_changes_while_it_is_served_is_served_as_it_was(tmp_path):
    bundle = bundles.write_tiny_bundle(tmp_path / "bundle")
    app = create_app(bundle, settings(engine__device="cpu", engine__threads=1, cache__memory_bytes=0))
    transport = httpx.ASGITransport(app)
    async with (
        app.router.lifespan_context(app),
        httpx.AsyncClient(transport=transport, base_url="http://test") as client,
    ):
        first = await client.post(EMBEDDINGS, content=images.png())
        for file in bundle.path.iterdir():
            file.write_bytes(b"half written")
        await app.state.models.default.canary.look()
        assert (await client.get("/health/ready")).status_code == 200
        again = await client.post(EMBEDDINGS, content=images.png())
    assert first.status_code == again.status_code == 200
    assert first.json()["data"] == again.json()["data"]
