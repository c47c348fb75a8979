import re

import pytest

from bootleg_service.dialects.envelopes import dialect_of
from bootleg_service.errors import STATUS
from bootleg_service.page.files import page_files

from .fake_engine import NAME
from .pictures import shade

pytestmark = pytest.mark.anyio


@pytest.fixture
async def document(served):
    return (await served.client.get("/openapi.json")).json()


def operations(document):
    return [(path, method, made) for path, methods in document["paths"].items() for method, made in methods.items()]


async def test_every_example_of_a_request_can_be_sent(served, document):
    sent = 0
    for path, method, operation in operations(document):
        where = path.replace("{model}", NAME)
        for kind, part in operation.get("requestBody", {"content": {}})["content"].items():
            if kind == "application/json":
                response = await served.client.request(method, where, json=part["schema"]["example"])
            elif kind == "multipart/form-data":
                response = await served.client.request(method, where, files={"images": shade(1)})
            else:
                response = await served.client.request(method, where, content=served_as(kind))
            assert response.status_code == 200, (path, kind, response.text)
            sent += 1
    assert sent >= 15


def served_as(kind):
    import io

    from PIL import Image

    file = io.BytesIO()
    Image.new("RGB", (16, 16)).save(file, kind.removeprefix("image/"))
    return file.getvalue()


def paths_of(routes):
    """Paths of routes; newer FastAPI keeps an included router as one entry."""
    for route in routes:
        inner = getattr(route, "routes", None) or getattr(getattr(route, "original_router", None), "routes", None)
        if inner and not hasattr(route, "app"):
            yield from paths_of(inner)
        else:
            yield route.path


async def test_every_route_is_in_the_document_but_those_of_the_pages(served, document):
    pages = {
        "/docs",
        "/docs/oauth2-redirect",
        "/openapi.json",
        "/static-offline-docs",
        *(file.path for file in page_files()),
    }
    aliases = {"/v2/models/{model}/versions/1" + end for end in ("", "/ready", "/infer")}
    assert set(paths_of(served.app.routes)) - pages - aliases == set(document["paths"])


async def test_every_error_is_documented_with_its_code_in_the_shape_of_its_dialect(document):
    for path, method, operation in operations(document):
        codes = set()
        for status, response in operation["responses"].items():
            if int(status) < 400 or "Health" in str(response):
                continue
            model = dialect_of(path).model
            for code, example in response["content"]["application/json"]["examples"].items():
                model.model_validate(example["value"], strict=True)
                assert code in str(example["value"])
                assert STATUS[code] == int(status)
                codes.add(code)
        if method == "post":
            assert set(STATUS) - codes <= {"not_found", "method_not_allowed", "not_acceptable", "model_not_found"}


async def test_the_headers_of_a_request_are_documented_with_every_way_to_send_images(document):
    for _, method, operation in operations(document):
        if method != "post":
            continue
        said = {parameter["name"]: parameter for parameter in operation["parameters"] if parameter["in"] == "header"}
        assert set(said) == {"X-Embedding-Space", "X-Priority", "X-Request-Timeout-Ms"}
        assert said["X-Priority"]["schema"]["enum"] == ["interactive", "bulk"]
        for status in ("429", "503", "504"):
            assert "Retry-After" in operation["responses"][status]["headers"]


async def test_references_lead_somewhere_and_no_422_of_the_frameworks_is_left(document):
    for name in set(re.findall(r"'#/components/schemas/([^']+)'", str(document))):
        assert name in document["components"]["schemas"]
    assert "#/$defs" not in str(document)
    assert "HTTPValidationError" not in str(document)


async def test_the_page_of_the_document_loads_nothing_from_elsewhere(served):
    page = await served.client.get("/docs")
    assert page.status_code == 200
    assert not re.findall(r"(?:https?:)?//[\w.-]+\.\w+", page.text)
    assets = re.findall(r"""(?:src|href)=["']([^"']+)["']""", page.text)
    assert len(assets) >= 3
    for asset in assets:
        assert (await served.client.get(asset)).status_code == 200


async def test_redoc_is_off(served):
    assert (await served.client.get("/redoc")).status_code == 404
