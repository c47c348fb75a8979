"""The key is asked of every route, as the OpenAPI document lists them: a new one cannot be forgotten."""

import hashlib
import re

import pytest

from bootleg_service.access.bearer import OPEN
from bootleg_service.app import create_app
from tests.service.fake_engine import FakeEngine, fake_bundle
from tests.service.serving import serving, settings

pytestmark = pytest.mark.anyio

KEY, OTHER = "bv-right", "bv-other"


def routes():
    paths = create_app(fake_bundle(), settings()).openapi()["paths"]
    return [(method, path) for path, methods in paths.items() for method in methods]


@pytest.fixture(scope="module")
def keys_file(tmp_path_factory):
    path = tmp_path_factory.mktemp("keys") / "keys"
    path.write_text("".join(f"{name} {hashlib.sha256(name.encode()).hexdigest()}\n" for name in (KEY, OTHER)))
    return path


@pytest.fixture
async def locked(keys_file):
    async with serving(FakeEngine(), access__keys_file=keys_file) as running:
        yield running


async def ask(served, method, path, **headers):
    return await served.client.request(method, re.sub(r"\{\w+\}", "fake", path), headers=headers)


@pytest.mark.parametrize(("method", "path"), routes())
@pytest.mark.parametrize("token", [None, "", "bv-wrong", KEY + "x", "\u00e9"])
async def test_without_a_right_key_no_route_answers_but_the_open_ones(locked, method, path, token):
    headers = {} if token is None else {"Authorization": f"Bearer {token}".encode()}
    answer = await ask(locked, method, path, **headers)
    if path in OPEN:
        assert answer.status_code in {200, 204}
    else:
        assert answer.status_code == 401
        assert answer.headers["WWW-Authenticate"] == "Bearer"
        assert "unauthorized" in answer.text or "API key" in answer.text
        assert KEY not in answer.text


@pytest.mark.parametrize(("method", "path"), routes())
@pytest.mark.parametrize("token", [KEY, OTHER])
async def test_with_any_of_the_keys_every_route_answers(locked, method, path, token):
    assert (await ask(locked, method, path, Authorization=f"Bearer {token}")).status_code != 401


@pytest.mark.parametrize(("method", "path"), routes())
async def test_a_server_without_keys_asks_for_none(served, method, path):
    assert (await ask(served, method, path)).status_code != 401


async def test_the_documents_are_shown_without_keys_and_closed_with_them_unless_asked_for(keys_file):
    for changed, status in (
        ({}, 200),
        ({"access__keys_file": keys_file}, 404),
        ({"access__keys_file": keys_file, "access__show_documents": True}, 200),
        ({"access__show_documents": False}, 404),
    ):
        async with serving(FakeEngine(), **changed) as served:
            for path in ("/docs", "/openapi.json"):
                assert (await served.client.get(path)).status_code == status, (changed, path)


async def test_metrics_are_for_who_has_a_key_for_everybody_or_for_nobody(keys_file):
    for changed, without, with_key in (
        ({}, 401, 200),
        ({"access__show_metrics": True}, 200, 200),
        ({"access__show_metrics": False}, 404, 404),
    ):
        async with serving(FakeEngine(), access__keys_file=keys_file, **changed) as served:
            assert (await ask(served, "GET", "/metrics")).status_code == without, changed
            assert (await ask(served, "GET", "/metrics", Authorization=f"Bearer {KEY}")).status_code == with_key
            assert (await ask(served, "GET", "/info")).status_code == 401
    async with serving(FakeEngine(), access__show_metrics=False) as served:
        assert (await ask(served, "GET", "/metrics")).status_code == 404
        assert "/metrics" not in (await served.client.get("/openapi.json")).json()["paths"]


def test_the_document_says_that_a_key_may_be_needed():
    document = create_app(fake_bundle(), settings()).openapi()
    assert document["components"]["securitySchemes"]["API key"]["scheme"] == "bearer"
