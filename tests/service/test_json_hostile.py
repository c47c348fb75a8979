"""Hostile JSON at every route that takes JSON, as the OpenAPI document lists them: a right refusal, and no work."""

import json
import re

import pytest

from bootleg_service.app import create_app

from .fake_engine import NAME, FakeEngine, fake_bundle
from .pictures import shade
from .serving import serving, settings

pytestmark = pytest.mark.anyio


def schemas():
    """By route: the schema of its body."""
    paths = create_app(fake_bundle(), settings()).openapi()["paths"]
    bodies = [(path, m.get("requestBody", {"content": {}})["content"]) for path in paths for m in paths[path].values()]
    return {
        re.sub(r"\{\w+\}", NAME, path): content["application/json"]["schema"]
        for path, content in bodies
        if "application/json" in content
    }


ROUTES = schemas()
HOSTILE = {
    "array of 10,000 arrays": b"[" * 10_000,
    "closed array of 10,000 arrays": b"[" * 9_999 + b"]" * 9_999,
    "object in object": b'{"input":' * 4_000 + b"1" + b"}" * 4_000,
    "deep field": b'{"input":' + b"[" * 5_000 + b"]" * 5_000 + b"}",
    "NaN": b"NaN",
    "NaN in a field": b'{"input":NaN,"dimensions":NaN,"image":Infinity,"images":[-Infinity],"inputs":1e999}',
    "a number of 100,000 digits": b'{"dimensions":' + b"9" * 100_000 + b"}",
    "no UTF-8": b'{"input":"\xff\xfe"}',
    "half a surrogate": b'{"input":"\\ud800"}',
    "NUL": b"\0",
    "two documents": b"{}{}",
    "a string of 10 MB": b'{"input":"' + b"A" * 10_000_000 + b'"}',
    "a string that does not end": b'{"input":"' + b"A" * 100_000,
    "10 MB of spaces": b" " * 10_000_000,
}


@pytest.fixture(scope="module")
async def asked():
    engine = FakeEngine()
    async with serving(engine) as running:
        yield running


@pytest.mark.parametrize("path", ROUTES)
@pytest.mark.parametrize("kind", HOSTILE)
async def test_hostile_json_is_refused_and_costs_no_call_of_the_model(asked, path, kind):
    before = len(asked.engine.batches)
    response = await asked.client.post(path, content=HOSTILE[kind], headers={"Content-Type": "application/json"})
    assert response.status_code in {400, 404, 413, 415, 422}, response.text[:300]
    assert len(response.content) < 2000, "the answer repeats what was sent"
    assert len(asked.engine.batches) == before


@pytest.mark.parametrize("path", ROUTES)
async def test_numbers_that_are_none_are_refused_wherever_they_stand(asked, path):
    for number in (float("nan"), float("inf")):
        for field in ROUTES[path]["properties"]:
            body = json.dumps({**ROUTES[path]["example"], field: number})
            response = await asked.client.post(path, content=body, headers={"Content-Type": "application/json"})
            assert response.status_code == 400, (field, response.text)


async def test_after_all_that_a_plain_image_is_answered(asked):
    assert (await asked.embed(shade(1))).status_code == 200
