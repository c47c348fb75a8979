"""What a browser and a scanner see of every route: no other origin is let in, and no software names itself."""

import re

import pytest

from bootleg_service.app import create_app

from .chaos.wire import Message, exchange
from .fake_engine import NAME, fake_bundle
from .live import live
from .serving import EMBEDDINGS, settings

pytestmark = pytest.mark.anyio


def routes():
    paths = create_app(fake_bundle(), settings()).openapi()["paths"]
    return [(method, re.sub(r"\{\w+\}", NAME, path)) for path, methods in paths.items() for method in methods]


@pytest.mark.parametrize(("method", "path"), routes())
async def test_no_route_lets_another_origin_read_it(served, method, path):
    headers = {"Origin": "https://evil.example", "Access-Control-Request-Method": method.upper(), "Cookie": "a=b"}
    for asked in (method, "options"):
        answer = await served.client.request(asked, path, headers=headers)
        assert not [name for name in answer.headers if name.startswith("access-control")]
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert answer.headers["cache-control"] == "no-store"
        assert "set-cookie" not in answer.headers
    assert answer.status_code == 405


async def test_the_library_that_serves_is_not_named_in_any_page_of_an_error():
    with live() as server:
        port = int(server.host.partition(":")[2])
        for message in (Message("GET", "/nowhere"), Message("POST", EMBEDDINGS), Message("PUT", "/metrics")):
            reply = await exchange(port, message)
            assert not re.search(r"uvicorn|starlette|fastapi|python|pydantic", reply.body.decode(), re.IGNORECASE)
