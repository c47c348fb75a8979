"""A reload, on real bundles: the new model beside the old one, no request lost, and nothing said in the wrong space."""

import asyncio
import gc
import hashlib
import io
import itertools
import threading
import weakref

import httpx
import numpy as np
import pytest
from PIL import Image

from bootleg_bundle.bundle import open_bundle, write_bundle
from bootleg_bundle.manifest import GOLDEN_NAME
from bootleg_service import gc_freeze
from bootleg_service.app import create_app
from bootleg_service.engine import open_engine
from tests.bundles import GRAPH_NAME, SIDE, manifest_fields, reference, write_tiny_bundle
from tests.provenance import made_up

from .serving import EMBEDDINGS, eventually, settings

pytestmark = pytest.mark.anyio

KEY = "bv-operator"


class Gated:
    """A real engine whose batches wait."""

    def __init__(self, engine):
        self._engine = engine
        self.gate = threading.Event()
        self.gate.set()
        self.closed = False

    def __getattr__(self, name):
        return getattr(self._engine, name)

    def run(self, pixels, outputs):
        assert self.gate.wait(60)
        return self._engine.run(pixels, outputs)

    def close(self):
        self.closed = True
        self._engine.close()


class Served:
    """An application on the bundle that a link points to."""

    def __init__(self, folder, app, client, engines):
        self.folder, self.app, self.client, self.engines = folder, app, client, engines
        self.models = app.state.models

    def point_to(self, version):
        point(self.folder, version)

    async def reload(self):
        return await self.client.post("/admin/reload", headers={"Authorization": f"Bearer {KEY}"})

    async def embed(self, number, **options):
        return await self.client.post(EMBEDDINGS, content=png(number), **options)

    def counted(self, outcome):
        return self.models.metrics.registry.get_sample_value("bootleg_reloads_total", {"outcome": outcome}) or 0


def point(folder, version):
    """Move the link in one step, as a deployment would."""
    (folder / "next").symlink_to(version)
    (folder / "next").replace(folder / "current")


def pixels(number):
    return np.random.default_rng(number).integers(256, size=(SIDE, SIDE, 3), dtype=np.uint8)


def png(number):
    buffer = io.BytesIO()
    Image.fromarray(pixels(number)).save(buffer, "PNG")
    return buffer.getvalue()


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Versions 1 and 2 of a bundle."""
    folder = tmp_path_factory.mktemp("bundles")
    for scale in (1, 2):
        write_tiny_bundle(folder / f"v{scale}", scale=scale)
    (folder / "admin").write_text(f"operator {hashlib.sha256(KEY.encode()).hexdigest()}\n")
    return folder


@pytest.fixture(scope="module")
def scales(folder):
    """By the space that an answer names, how many times the reference its vectors must be."""
    return {open_bundle(folder / f"v{scale}").manifest.embedding_space: scale for scale in (1, 2)}


@pytest.fixture(params=[0])
def cache_bytes(request):
    """Of the application."""
    return request.param


@pytest.fixture
async def served(folder, cache_bytes):
    point(folder, "v1")
    engines = []

    def open_model(bundle, chosen):
        engines.append(Gated(open_engine(bundle, chosen)))
        return engines[-1]

    chosen = settings(
        engine__device="cpu",
        engine__threads=1,
        cache__memory_bytes=cache_bytes,
        access__admin_keys_file=folder / "admin",
    )
    app = create_app(open_bundle(folder / "current"), chosen, open_model=open_model)
    async with app.router.lifespan_context(app):
        transport = httpx.ASGITransport(app, raise_app_exceptions=False)
        async with httpx.AsyncClient(transport=transport, base_url="http://test", timeout=None) as client:
            yield Served(folder, app, client, engines)
            for engine in engines:
                engine.gate.set()


def check(answer, number, scales):
    """The vector is the one that the model of the named space gives."""
    assert answer.status_code == 200, answer.text
    body = answer.json()
    assert answer.headers["X-Embedding-Space"] == body["embedding_space"]
    scale = scales[body["embedding_space"]]
    expected = scale * reference(pixels(number)[None])["embedding"][0]
    np.testing.assert_allclose(np.float32(body["data"][0]["embedding"]), expected, atol=1e-5 * scale)
    return scale


async def test_reloads_under_load_lose_no_request_and_every_vector_is_of_the_space_it_names(served, scales):
    numbers, stop, seen = itertools.count(), asyncio.Event(), set()

    async def client():
        while not stop.is_set():
            number = next(numbers)
            seen.add(check(await served.embed(number), number, scales))

    clients = [asyncio.create_task(client()) for _ in range(8)]
    for version in ("v2", "v1", "v2", "v1"):
        before = next(numbers)
        await eventually(lambda before=before: next(numbers) > before + 20)
        served.point_to(version)
        (outcome,) = (await served.reload()).json()["models"]
        assert outcome["outcome"] == "reloaded"
        assert scales[outcome["embedding_space"]] == int(version[1])
    stop.set()
    await asyncio.gather(*clients)
    assert seen == {1, 2}
    assert served.counted("reloaded") == 4
    await eventually(lambda: all(engine.closed for engine in served.engines[:-1]))
    assert not served.engines[-1].closed


async def test_a_request_in_flight_ends_on_the_old_model_which_is_then_closed_and_freed(served, scales):
    old = served.models.default
    served.engines[0].gate.clear()
    in_flight = asyncio.create_task(served.embed(1))
    await eventually(lambda: old.batcher.thread.busy_since is not None)
    served.point_to("v2")
    assert (await served.reload()).status_code == 200
    assert check(await served.embed(2), 2, scales) == 2, "new requests are answered meanwhile"
    assert not in_flight.done()
    assert not served.engines[0].closed
    served.engines[0].gate.set()
    assert check(await in_flight, 1, scales) == 1
    await eventually(lambda: served.engines[0].closed)
    assert served.engines[0]._engine._session._session is None
    assert not old.batcher.alive
    text = (await served.client.get("/metrics")).text
    assert text.count("bootleg_model_info{") == 1


async def test_a_bundle_of_the_same_space_is_still_said_to_be_served_when_the_old_one_is_closed(served, tmp_path):
    write_tiny_bundle(tmp_path / "again")
    write_bundle(tmp_path / "again", manifest_fields(provenance=made_up(steps=7)), [GRAPH_NAME, GOLDEN_NAME])
    old = served.models.default
    served.point_to(tmp_path / "again")
    (outcome,) = (await served.reload()).json()["models"]
    assert (outcome["outcome"], outcome["embedding_space"]) == ("reloaded", old.bundle.manifest.embedding_space)
    await eventually(lambda: served.engines[0].closed)
    await eventually(lambda: not served.models._tasks)
    assert (await served.client.get("/metrics")).text.count("bootleg_model_info{") == 1


async def test_a_body_that_arrives_across_a_reload_is_answered_by_the_model_it_came_for(served, scales):
    began, go_on = asyncio.Event(), asyncio.Event()
    image = png(3)

    async def body():
        yield image[:50]
        began.set()
        await go_on.wait()
        yield image[50:]

    # A transport that hands the body over in pieces, while they come.
    messages = body()

    async def receive():
        try:
            return {"type": "http.request", "body": await anext(messages), "more_body": True}
        except StopAsyncIteration:
            if told:
                return await asyncio.Event().wait()
            told.append(True)
            return {"type": "http.request", "body": b"", "more_body": False}

    told, sent = [], []

    async def send(message):
        sent.append(message)

    scope = {
        "type": "http",
        "asgi": {"version": "3.0"},
        "http_version": "1.1",
        "method": "POST",
        "scheme": "http",
        "path": EMBEDDINGS,
        "raw_path": EMBEDDINGS.encode(),
        "root_path": "",
        "query_string": b"",
        "headers": [(b"content-type", b"image/png")],
        "client": ("127.0.0.1", 1),
        "server": ("test", 80),
    }
    request = asyncio.create_task(served.app(scope, receive, send))
    await began.wait()
    old = served.models.default
    await eventually(lambda: old.holders == 1)
    served.point_to("v2")
    assert (await served.reload()).status_code == 200
    assert old.batcher.alive
    go_on.set()
    await request
    start, content = sent
    headers = [(name.decode(), value.decode()) for name, value in start["headers"]]
    assert check(httpx.Response(start["status"], headers=headers, content=content["body"]), 3, scales) == 1
    await eventually(lambda: not old.batcher.alive)


async def test_a_bundle_that_has_not_changed_is_left_alone(served):
    before = served.models.default
    answer = await served.reload()
    assert answer.status_code == 200
    assert [model["outcome"] for model in answer.json()["models"]] == ["unchanged"]
    assert served.models.default is before
    assert len(served.engines) == 1


def damaged(folder):
    write_tiny_bundle(folder, scale=2)
    graph = folder / GRAPH_NAME
    data = bytearray(graph.read_bytes())
    data[len(data) // 2] ^= 1
    graph.write_bytes(data)


def half_written(folder):
    write_tiny_bundle(folder, scale=2)
    (folder / "manifest.json").unlink()


def lying(folder):
    """Hashes that fit, and golden answers that the graph does not give."""
    write_tiny_bundle(folder, scale=2)
    with np.load(folder / GOLDEN_NAME) as file:
        golden = {name: array if name == "pixels" else array + 1 for name, array in file.items()}
    np.savez(folder / GOLDEN_NAME, allow_pickle=False, **golden)
    write_bundle(folder, manifest_fields(), [GRAPH_NAME, GOLDEN_NAME])


def no_model(folder):
    write_tiny_bundle(folder, scale=2)
    (folder / GRAPH_NAME).write_bytes(b"no graph at all")
    write_bundle(folder, manifest_fields(), [GRAPH_NAME, GOLDEN_NAME])


@pytest.mark.parametrize(
    ("spoil", "reason"),
    [
        (damaged, "does not have the SHA-256"),
        (half_written, "no manifest.json"),
        (lying, "golden check failed"),
        (no_model, "cannot load"),
    ],
)
async def test_a_bundle_that_cannot_be_served_leaves_the_old_model_serving(served, scales, tmp_path, spoil, reason):
    spoil(tmp_path / "bad")
    before = served.models.default
    served.point_to(tmp_path / "bad")
    answer = await served.reload()
    assert answer.status_code == 409
    (outcome,) = answer.json()["models"]
    assert (outcome["outcome"], scales[outcome["embedding_space"]]) == ("failed", 1)
    assert reason in outcome["reason"]
    assert served.counted("failed") == 1
    assert served.models.default is before
    assert check(await served.embed(4), 4, scales) == 1
    before.engine.check_golden()  # does not look into the directory that is there now
    assert (await served.client.get("/health/ready")).status_code == 200


async def test_a_device_that_fails_for_good_while_a_model_is_loaded_ends_the_process(folder):
    point(folder, "v1")
    ends = []

    def open_model(bundle, chosen):
        if bundle.manifest.embedding_space != first.manifest.embedding_space:
            raise RuntimeError("CUDA failure 700: an illegal memory access was encountered")
        return open_engine(bundle, chosen)

    first = open_bundle(folder / "current")
    chosen = settings(engine__device="cpu", engine__threads=1)
    app = create_app(first, chosen, open_model=open_model, on_fatal=ends.append)
    async with app.router.lifespan_context(app):
        point(folder, "v2")
        (outcome,) = await app.state.models.reload()
    assert outcome.outcome == "failed"
    assert "700" not in outcome.reason
    assert len(ends) == 1


async def test_a_name_that_another_bundle_has_is_refused(folder, tmp_path):
    write_tiny_bundle(tmp_path / "other", name="other")
    point(folder, "v1")
    bundles = [open_bundle(tmp_path / "other"), open_bundle(folder / "current")]
    app = create_app(bundles, settings(engine__device="cpu", engine__threads=1))
    async with app.router.lifespan_context(app):
        write_tiny_bundle(tmp_path / "same", name="other", scale=2)
        point(folder, tmp_path / "same")
        first, second = await app.state.models.reload()
        assert (first.outcome, second.outcome) == ("unchanged", "failed")
        assert "both named 'other'" in second.reason


async def test_the_route_is_for_operators_alone_and_absent_without_their_keys(served, folder):
    for headers in ({}, {"Authorization": "Bearer bv-wrong"}):
        assert (await served.client.post("/admin/reload", headers=headers)).status_code == 401
    assert (await served.embed(1)).status_code == 200, "the other routes ask for no key"
    app = create_app(open_bundle(folder / "current"), settings(engine__device="cpu", engine__threads=1))
    async with app.router.lifespan_context(app):
        transport = httpx.ASGITransport(app, raise_app_exceptions=False)
        async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
            assert (await client.post("/admin/reload")).status_code == 404


async def test_nothing_is_reloaded_while_the_service_stops(served):
    served.models.drain()
    answer = await served.reload()
    assert (answer.status_code, answer.headers["Retry-After"]) == (503, "1")
    assert "shutting down" in answer.text


async def test_a_reload_that_the_end_of_the_service_meets_is_given_up(folder):
    point(folder, "v1")
    app = create_app(open_bundle(folder / "current"), settings(engine__device="cpu", engine__threads=1))
    async with app.router.lifespan_context(app):
        point(folder, "v2")
        app.state.models.begin_reload()
        await asyncio.sleep(0)
    assert app.state.models.ended
    assert not app.state.models.slots[0].service.batcher.alive


@pytest.mark.parametrize("cache_bytes", [2**26], indirect=True)
async def test_responses_that_were_kept_are_the_former_models_alone(served, scales):
    for version in (1, 2):
        served.point_to(f"v{version}")
        await served.reload()
        answers = [await served.embed(5) for _ in range(3)]
        assert [check(answer, 5, scales) for answer in answers] == [version] * 3
        assert [answer.headers["x-cache"] for answer in answers] == ["miss", "hit", "hit"]


async def test_a_former_model_is_freed_though_what_lives_to_the_end_is_frozen(served):
    gc_freeze.freeze()
    try:
        former = weakref.ref(served.models.default.batcher)
        served.point_to("v2")
        await served.reload()
        await eventually(lambda: former() is None)
    finally:
        gc.unfreeze()
