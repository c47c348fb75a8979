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

    @router.get("/data")
    async def made() -> dict[str, int]:
        return {"size": 3}

    app = FastAPI()
    app.state.keys = app.state.admin_keys = None
    app.state.open = frozenset()
    app.router.routes.insert(0, DirectRoutes([router]))
    app.include_router(router)
    return app


@pytest.mark.parametrize(("query", "says"), [("", "cat 7"), ("?size=2", "cat 2")])
async def test_a_route_gets_its_path_and_its_options_or_their_defaults(query, says):
    async with httpx.AsyncClient(transport=httpx.ASGITransport(application()), base_url="http://x") as client:
        assert (await client.post(f"/of/cat{query}")).text == says
        assert (await client.post("/of/cat?size=large")).status_code == 422


async def test_a_route_that_makes_no_response_goes_the_usual_way():
    async with httpx.AsyncClient(transport=httpx.ASGITransport(application()), base_url="http://x") as client:
        assert (await client.get("/data")).json() == {"size": 3}


def test_the_application_has_no_dependency_but_the_one_that_direct_routes_call():
    app = create_app(fake_bundle(), settings())
    assert [dependency.dependency for dependency in app.router.dependencies] == [authorised]


def test_the_routes_that_take_images_are_called_directly():
    app = create_app(fake_bundle(), settings())
    assert {route.path for route in app.router.routes[0].routes} == {
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
