"""What must never come out: the text of an exception, a path, a line of a file. Every route, every stage."""

import base64
import io
import logging
import re

import pytest
from PIL import Image, PngImagePlugin

from bootleg_service import decode_pool
from bootleg_service.app import create_app

from .fake_engine import NAME, FakeEngine, fake_bundle
from .pictures import shade
from .serving import EMBEDDINGS, OPENAI, PATCHES, serving, settings

pytestmark = pytest.mark.anyio

MARKER = "marker-4711"
TEXT = f"{MARKER} /srv/secret/weights.onnx line 12"
SEGMENT = "/v1/images/segment"


def routes():
    paths = create_app(fake_bundle(), settings()).openapi()["paths"]
    return [(method, re.sub(r"\{\w+\}", NAME, path)) for path, methods in paths.items() for method in methods]


def crash(*arguments, **named):
    raise RuntimeError(TEXT)


class Crashing:
    """In the place of what the routes share: whatever is asked of it raises."""

    def __getattr__(self, name):
        raise RuntimeError(TEXT)


def tells_nothing(response):
    everything = response.text + repr(response.headers)
    assert MARKER not in everything
    assert "secret" not in everything
    assert "Traceback" not in everything
    assert ".py" not in everything


@pytest.mark.parametrize(("method", "path"), routes())
async def test_an_exception_in_any_handler_shows_nothing_of_itself(served, monkeypatch, method, path):
    monkeypatch.setattr(served.app.state, "models", Crashing())
    body = {"content": b"{}", "headers": {"Content-Type": "application/json"}} if method == "post" else {}
    response = await served.client.request(method, path, **body)
    tells_nothing(response)
    # A route that needs nothing of the service may still say that the server is there.
    assert response.status_code == 500 or path in {"/v2", "/v2/health/live", "/v2/health/ready", "/docs"}, path


@pytest.mark.parametrize("path", [EMBEDDINGS, PATCHES, SEGMENT, OPENAI])
@pytest.mark.parametrize("stage", ["cache", "decode", "preprocess", "model", "encode"])
async def test_an_exception_in_any_stage_shows_nothing_of_itself(served, monkeypatch, path, stage):
    from bootleg_service import respond, routes, routes_segment
    from bootleg_service.dialects import openai

    match stage:
        case "cache":
            monkeypatch.setattr(served.service.pipeline._cache, "get", crash)
        case "decode":
            monkeypatch.setattr(decode_pool, "decode", crash)
        case "preprocess":
            monkeypatch.setattr(decode_pool, "apply", crash)
        case "model":
            monkeypatch.setattr(served.engine, "_gate", Crashing())
        case "encode":
            for module in (respond, routes, routes_segment, openai):
                if hasattr(module, "respond") and module is not respond:
                    monkeypatch.setattr(module, "respond", crash)
    if path == OPENAI:
        response = await served.client.post(path, json={"input": base64.b64encode(shade(1)).decode()})
    else:
        response = await served.client.post(path, content=shade(1))
    assert response.status_code == 500, response.text
    assert response.json()["error"]["code"] in {"internal_error", "engine_error"}
    tells_nothing(response)


FORGED = "x\r\nERROR:bootleg:forged\x1b[31m\u202e"


def labelled():
    """A PNG that carries the forged line wherever a PNG has room for text."""
    info = PngImagePlugin.PngInfo()
    info.add_text("Comment", FORGED.encode("latin-1", "replace").decode("latin-1"))
    info.add_itxt("Title", FORGED)
    exif = Image.Exif()
    exif[0x010E] = FORGED
    file = io.BytesIO()
    Image.new("RGB", (16, 16)).save(file, "PNG", pnginfo=info, exif=exif, icc_profile=FORGED.encode())
    return file.getvalue()


@pytest.mark.parametrize("cut", [0, 20])
async def test_nothing_that_a_file_says_is_repeated_or_logged(caplog, cut):
    data = labelled()
    data = data[: len(data) - cut]
    with caplog.at_level(logging.DEBUG):
        async with serving(FakeEngine()) as served:
            answers = [
                await served.embed(data),
                await served.embed(data, headers={"X-Embedding-Space": "forged"}),
                await served.client.post(EMBEDDINGS, files={"images": ("forged\u202e.png", data, "image/forged")}),
                await served.client.post(OPENAI, json={"input": "forged:" + FORGED, "model": "forged"}),
                await served.client.post(OPENAI, json={"input": "data:image/forged;base64,AAAA"}),
                await served.client.post(OPENAI, json={"input": "AAAA", "encoding_format": "forged"}),
                await served.client.get("/forged"),
            ]
    assert answers[0].status_code == (422 if cut else 200)
    for answer in answers:
        assert "forged" not in answer.text
    ours = [r.getMessage() for r in caplog.records if r.name.startswith("bootleg")]
    assert ours
    assert not [message for message in ours if "forged" in message]
