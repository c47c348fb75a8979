"""Routes that are called without FastAPI's dependencies keep what those do."""

from typing import Annotated

import httpx
import pytest
from fastapi import APIRouter, FastAPI, Query, Request, Response
from pydantic import BaseModel

from bootleg_service.access.bearer import authorised
from bootleg_service.app import create_app
from bootleg_service.direct_routes import DirectRoutes

from .fake_engine import fake_bundle
from .serving import settings

pytestmark = pytest.mark.anyio


class Options(BaseModel):
    size: int = 7


def application():
    router = APIRouter()

    @router.post("/of/{name}")
    async def answered(request: Request, name: str, options: Annotated[Options, Query()]) -> Response:
        return Response(f"{name} {options.size}")

    @router.get("/headers/{name}")
    async def headers(request: Request, name: str) -> Response:
        return Response(f"{request.headers.get(name, 'none')} {request.headers.getlist(name)}")

    @router.get("/data")
    async def made() -> dict[str, int]:
        return {"size": 3}

    app = FastAPI()
    app.state.keys = app.state.admin_keys = None
    app.state.open = frozenset()
    app.add_middleware(DirectRoutes, routers=[router])
    app.include_router(router)
    return app


@pytest.mark.parametrize(("query", "says"), [("", "cat 7"), ("?size=2", "cat 2")])
async def test_a_route_gets_its_path_and_its_options_or_their_defaults(query, says):
    async with httpx.AsyncClient(transport=httpx.ASGITransport(application()), base_url="http://x") as client:
        assert (await client.post(f"/of/cat{query}")).text == says
        assert (await client.post("/of/cat?size=large")).status_code == 422


@pytest.mark.parametrize("query", ["", "?x=1"])
async def test_headers_are_found_whatever_their_case_the_first_of_several(query):
    sent = [("X-One", "1"), ("X-Two", "2"), ("x-two", "3"), ("X-Latin", "\xfc")]
    async with httpx.AsyncClient(transport=httpx.ASGITransport(application()), base_url="http://x") as client:
        for name, says in [
            ("x-ONE", "1 ['1']"),
            ("X-Two", "2 ['2', '3']"),
            ("x-latin", "\xfc ['\xfc']"),
            ("x-missing", "none []"),
        ]:
            sent_raw = [(key.encode(), value.encode("latin-1")) for key, value in sent]
            assert (await client.get(f"/headers/{name}{query}", headers=sent_raw)).text == says


async def test_a_route_that_makes_no_response_goes_the_usual_way():
    async with httpx.AsyncClient(transport=httpx.ASGITransport(application()), base_url="http://x") as client:
        assert (await client.get("/data")).json() == {"size": 3}


def test_the_application_has_no_dependency_but_the_one_that_direct_routes_call():
    app = create_app(fake_bundle(), settings())
    assert [dependency.dependency for dependency in app.router.dependencies] == [authorised]


def test_the_routes_that_take_images_are_called_directly():
    app = create_app(fake_bundle(), settings())
    (direct,) = (each for each in app.user_middleware if each.cls is DirectRoutes)
    assert DirectRoutes(app, **direct.kwargs).paths == {
        "/v1/images/embeddings",
        "/v1/images/patches",
        "/v2/models/{model}/infer",
        "/v2/models/{model}/versions/1/infer",
    }


@pytest.mark.parametrize("path", ["/v1/images/embeddings", "/v2/models/fake/infer"])
async def test_another_method_is_refused_as_on_any_route(path):
    app = create_app(fake_bundle(), settings())
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://x") as client:
        answer = await client.get(path)
    assert answer.status_code == 405
    assert answer.headers["allow"] == "POST"
