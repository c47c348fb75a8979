"""Browsers: no page may ask unless its origin is listed, and none ever with the browser's credentials."""

import pytest
from pydantic import ValidationError

from tests.service.fake_engine import FakeEngine
from tests.service.pictures import shade
from tests.service.serving import EMBEDDINGS, serving, settings

pytestmark = pytest.mark.anyio

PAGE, OTHER = "https://app.example.org", "https://evil.example.org"


@pytest.fixture
async def open_to_a_page():
    async with serving(FakeEngine(), access__cors_origins=[PAGE]) as running:
        yield running


def preflight(served, origin, method="POST", headers="authorization, x-priority"):
    asked = {"Origin": origin, "Access-Control-Request-Method": method, "Access-Control-Request-Headers": headers}
    return served.client.options(EMBEDDINGS, headers=asked)


async def test_without_a_list_no_answer_names_an_origin(served):
    for answer in (await preflight(served, PAGE), await served.embed(shade(1), headers={"Origin": PAGE})):
        assert not [name for name in answer.headers if name.startswith("access-control-")]


async def test_a_listed_origin_may_ask_and_read_our_headers(open_to_a_page):
    allowed = await preflight(open_to_a_page, PAGE)
    assert allowed.status_code == 200
    assert allowed.headers["access-control-allow-origin"] == PAGE
    answer = await open_to_a_page.embed(shade(1), headers={"Origin": PAGE})
    assert answer.headers["access-control-allow-origin"] == PAGE
    assert {"X-Embedding-Space", "Retry-After"} <= set(answer.headers["access-control-expose-headers"].split(", "))


async def test_no_other_origin_method_or_header_is_allowed(open_to_a_page):
    for answer in (
        await preflight(open_to_a_page, OTHER),
        await preflight(open_to_a_page, PAGE, method="DELETE"),
        await preflight(open_to_a_page, PAGE, headers="x-other"),
    ):
        assert answer.status_code == 400
    assert "access-control-allow-origin" not in (await preflight(open_to_a_page, OTHER)).headers
    answer = await open_to_a_page.embed(shade(1), headers={"Origin": OTHER})
    assert "access-control-allow-origin" not in answer.headers


async def test_credentials_of_the_browser_are_never_allowed(open_to_a_page):
    for answer in (
        await preflight(open_to_a_page, PAGE),
        await open_to_a_page.embed(shade(1), headers={"Origin": PAGE, "Cookie": "a=b"}),
    ):
        assert "access-control-allow-credentials" not in answer.headers


async def test_an_error_can_be_read_by_the_page_too(open_to_a_page):
    answer = await open_to_a_page.embed(b"", headers={"Origin": PAGE})
    assert (answer.status_code, answer.headers["access-control-allow-origin"]) == (400, PAGE)
    open_to_a_page.engine.broken = True
    answer = await open_to_a_page.embed(shade(2), headers={"Origin": PAGE})
    assert (answer.status_code, answer.headers["access-control-allow-origin"]) == (500, PAGE)


@pytest.mark.parametrize(
    "origin", ["*", "null", "app.example.org", "https://app.example.org/", "https://a b", "ftp://a"]
)
def test_what_is_no_origin_is_refused_at_the_start(origin):
    with pytest.raises(ValidationError, match="an origin is a scheme"):
        settings(access__cors_origins=[origin])
