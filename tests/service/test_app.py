import pytest

from bootleg_service.app import create_app
from bootleg_service.errors import StartupError

from .fake_engine import FakeEngine, fake_bundle
from .serving import serving, settings

pytestmark = pytest.mark.anyio


async def start(open_model):
    app = create_app(fake_bundle(), settings(), open_model=open_model)
    async with app.router.lifespan_context(app):
        pytest.fail("it started")


async def test_nothing_is_loaded_before_the_start():
    opened = []
    create_app(fake_bundle(), settings(), open_model=lambda *a: opened.append(1))
    assert opened == []


async def test_the_smallest_and_the_largest_batch_are_warmed_up_before_readiness(engine):
    async with serving(engine, batch__max_batch=6) as served:
        assert engine.warmed == [6, 1], "the largest first"
        assert served.app.state.models.started


async def test_the_engine_settings_reach_whoever_opens_the_model(engine):
    seen = []

    def open_model(bundle, chosen):
        seen.append(chosen)
        return engine

    app = create_app(fake_bundle(), settings(engine__device="cpu", engine__threads=3), open_model=open_model)
    async with app.router.lifespan_context(app):
        assert [(chosen.device, chosen.threads) for chosen in seen] == [("cpu", 3)]


async def test_a_golden_check_that_fails_stops_the_start():
    engine = FakeEngine()
    engine.golden = False
    with pytest.raises(StartupError, match="golden"):
        await start(lambda *a: engine)


async def test_a_warm_up_that_fails_stops_the_start():
    class Cold(FakeEngine):
        def warm_up(self, batches):
            raise RuntimeError("out of memory")

    with pytest.raises(RuntimeError, match="out of memory"):
        await start(lambda *a: Cold())


async def test_a_device_that_cannot_be_had_stops_the_start():
    def open_model(bundle, chosen):
        raise StartupError("device = 'cuda': none")

    with pytest.raises(StartupError, match="cuda"):
        await start(open_model)


async def test_after_the_end_nothing_is_ready_and_the_batcher_has_stopped(engine):
    async with serving(engine) as served:
        service = served.service
    assert service.pipeline.draining
    assert engine.closed
    assert not service.batcher.alive


async def test_two_applications_in_one_process_share_no_metrics():
    async with serving(FakeEngine()) as one, serving(FakeEngine()) as other:
        await one.embed(b"")
        assert one.sample("bootleg_requests_total", route="/v1/images/embeddings", outcome="empty_image") == 1
        assert other.sample("bootleg_requests_total", route="/v1/images/embeddings", outcome="empty_image") == 0
