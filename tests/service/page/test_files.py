"""The page's files: their routes, headers and types, and that a wheel has every one of them."""

import base64
import hashlib
import re
from pathlib import Path

import pytest
from click.testing import CliRunner
from hatchling.builders.wheel import WheelBuilder

from bootleg_service.cli import serve
from bootleg_service.page.files import ASSETS, TYPES, page_files
from bootleg_service.stages import STAGES
from tests.service.fake_engine import FakeEngine
from tests.service.pictures import photo
from tests.service.serving import serving

pytestmark = pytest.mark.anyio

ROOT = Path(__file__).parents[3]
PATHS = [file.path for file in page_files()]


def source(name):
    return (ASSETS / name).read_text(encoding="utf-8")


@pytest.mark.parametrize("path", PATHS)
async def test_every_file_has_its_type_a_hash_and_strict_headers(served, path):
    answer = await served.client.get(path)
    assert answer.status_code == 200
    kinds = {
        "": "text/html",
        ".css": "text/css",
        ".js": "text/javascript",
        ".svg": "image/svg+xml",
        ".jpg": "image/jpeg",
    }
    assert answer.headers["content-type"].split(";")[0] == kinds[Path(path).suffix]
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert answer.headers["cache-control"] == "no-cache"
    policy = dict(part.split(" ", 1) for part in answer.headers["content-security-policy"].split("; "))
    assert policy["default-src"] == "'self'"
    assert policy["object-src"] == policy["frame-ancestors"] == policy["form-action"] == "'none'"
    assert "unsafe" not in answer.headers["content-security-policy"]
    assert "access-control-allow-origin" not in answer.headers


@pytest.mark.parametrize("path", PATHS)
async def test_a_file_that_the_browser_has_is_not_sent_again(served, path):
    first = await served.client.get(path)
    for known in (first.headers["etag"], f'"other", W/{first.headers["etag"]}', "*"):
        again = await served.client.get(path, headers={"If-None-Match": known})
        assert (again.status_code, again.content) == (304, b"")
        assert again.headers["etag"] == first.headers["etag"]
    assert (await served.client.get(path, headers={"If-None-Match": '"other"'})).content == first.content
    head = await served.client.head(path)
    assert (head.status_code, head.content, head.headers["etag"]) == (200, b"", first.headers["etag"])


def test_the_hash_follows_the_content():
    tags = {file.path: file.etag for file in page_files()}
    assert len(set(tags.values())) == len(tags) > 10


async def test_the_api_still_says_that_nothing_is_kept(served):
    assert (await served.embed(photo())).headers["cache-control"] == "no-store"


async def test_a_path_outside_the_page_is_not_found(served):
    for path in ("/page/", "/page/index.html", "/page/files.py", "/page/..%2ffiles.py", "/page/../page/files.py"):
        assert (await served.client.get(path)).status_code == 404, path


async def test_posting_to_the_root_still_embeds_as_text_embeddings_inference_does(served):
    body = {"inputs": base64.b64encode(photo()).decode()}
    answer = await served.client.post("/", json=body)
    assert answer.status_code == 200
    assert answer.json() == (await served.client.post("/embed", json=body)).json()


async def test_without_the_page_nothing_of_it_is_served_and_posting_works():
    async with serving(FakeEngine(), access__show_page=False) as served:
        for path in PATHS:
            assert (await served.client.get(path)).status_code in {404, 405}, path
        body = {"inputs": base64.b64encode(photo()).decode()}
        assert (await served.client.post("/", json=body)).status_code == 200


async def test_with_keys_the_files_are_open_and_what_they_ask_for_is_not(tmp_path):
    keys = tmp_path / "keys"
    keys.write_text(f"one {hashlib.sha256(b'bv-right').hexdigest()}\n")
    async with serving(FakeEngine(), access__keys_file=keys) as served:
        for path in PATHS:
            assert (await served.client.get(path)).status_code == 200, path
        for method, path in (("POST", "/"), ("GET", "/v1/models"), ("GET", "/info"), ("POST", "/v1/images/patches")):
            assert (await served.client.request(method, path)).status_code == 401, path


async def test_the_page_is_no_part_of_the_openapi_document(served):
    document = served.app.openapi()["paths"]
    assert not {path for path in document if path == "/" or path.startswith("/page")}


@pytest.mark.parametrize(
    ("arguments", "variables", "shown"),
    [([], {}, True), (["--no-page"], {}, False), ([], {"BOOTLEG_PAGE": "0"}, False), ([], {"BOOTLEG_PAGE": "1"}, True)],
)
def test_an_option_and_its_variable_leave_the_page_out(arguments, variables, shown):
    with CliRunner(env=variables).isolation():
        assert serve.make_context("serve", arguments).params["page"] is shown


def test_a_wheel_has_every_file():
    packed = {file.distribution_path.replace("\\", "/") for file in WheelBuilder(str(ROOT)).recurse_included_files()}
    wanted = {f"bootleg_service/page/assets/{path.name}" for path in ASSETS.iterdir()}
    assert wanted | {"bootleg_service/example.jpg", "bootleg_service/page/files.py"} <= packed


def test_every_asset_is_served():
    assert {path.suffix for path in ASSETS.iterdir()} <= set(TYPES)
    assert len(PATHS) == len(list(ASSETS.iterdir())) + 1  # and the example photograph


def test_what_a_file_names_is_there():
    named = set(re.findall(r'(?:src|href)="(?!#)([^"]+)"', source("index.html")))
    assert {f"/{path}" for path in named} <= set(PATHS)
    for path in ASSETS.glob("*.js"):
        for imported in re.findall(r'from "\./([^"]+)"', path.read_text(encoding="utf-8")):
            assert (ASSETS / imported).exists(), (path.name, imported)


@pytest.mark.parametrize("name", sorted(path.name for path in ASSETS.iterdir() if path.suffix != ".jpg"))
def test_nothing_is_inline_nothing_comes_from_elsewhere_and_no_text_becomes_markup(name):
    text = source(name).replace("http://www.w3.org/2000/svg", "")
    assert not re.search(r"https?:|//[a-z]+\.", text)
    assert not re.search(r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|eval\(|new Function", text)
    assert not re.search(r"localStorage|sessionStorage|indexedDB|document\.cookie", text)
    if name.endswith(".html"):
        assert not re.search(r"\son\w+=|\sstyle=|<style|<script(?![^>]*\ssrc=)", text)


def test_every_stage_of_server_timing_has_a_colour_of_its_own():
    colours = dict(re.findall(r"^\.stage-(\w+) \{ background: (#\w+); \}$", source("page.css"), re.MULTILINE))
    assert set(colours) == set(STAGES)
    assert len(set(colours.values())) == len(STAGES)
