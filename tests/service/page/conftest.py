"""Fixtures of the page suite: the machine's own Chromium, and servers for it to visit."""

from __future__ import annotations

import hashlib
import os
import shutil

import pytest

from bootleg_service.app import create_app
from tests.service.live import listening
from tests.service.masks.headed import write_headed_bundle
from tests.service.serving import settings

from .visitor import Visitor

KEY = "bv-right"
# On a busy machine the service would refuse for its deadline, as it should, and the browser would log that.
PATIENT = {
    "engine__device": "cpu",
    "engine__threads": 1,
    "limits__request_seconds": 120,
    "limits__receive_seconds": 120,
}


@pytest.fixture(scope="session")
def headed_bundle(tmp_path_factory):
    """The tiny bundle with two heads; not to be written to."""
    return write_headed_bundle(tmp_path_factory.mktemp("page") / "bundle")


@pytest.fixture(scope="module")
def site(headed_bundle):
    """A server of a real model: its address."""
    with listening(create_app(headed_bundle, settings(**PATIENT))) as host:
        yield f"http://{host}/"


@pytest.fixture(scope="module")
def locked_site(headed_bundle, tmp_path_factory):
    """A server that asks for a key, :data:`KEY`: its address."""
    path = tmp_path_factory.mktemp("keys") / "keys"
    path.write_text(f"visitor {hashlib.sha256(KEY.encode()).hexdigest()}\n")
    with listening(create_app(headed_bundle, settings(access__keys_file=path, **PATIENT))) as host:
        yield f"http://{host}/"


@pytest.fixture(scope="module")
def browser():
    """Chromium of the machine, ended with the module: its driver must not share a thread with other event loops."""
    binary = shutil.which("chromium") or shutil.which("chromium-browser")
    if binary is None:
        pytest.skip("no chromium on this machine: the page is not tested in a browser")
    from playwright.sync_api import sync_playwright

    sandbox = [] if os.geteuid() else ["--no-sandbox"]  # Chromium has none for root
    with sync_playwright() as playwright:
        opened = playwright.chromium.launch(executable_path=binary, args=sandbox)
        yield opened
        opened.close()


@pytest.fixture
def visit(browser):
    """Open a page in a browser profile of its own; whatever it logs or asks for elsewhere fails the test."""
    visitors = []

    def visit(url, *, expected_errors=(), **context):
        visitors.append(Visitor(browser, url, expected_errors=expected_errors, **context))
        return visitors[-1]

    yield visit
    for visitor in visitors:
        visitor.leave()
