"""Requests made from the OpenAPI document: whatever is sent, the answer is one that the document announces."""

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st

from bootleg_service.admission import TIMEOUT_HEADER
from bootleg_service.app import create_app

from .fake_engine import NAME, fake_bundle
from .live import live
from .pictures import photo, shade
from .serving import settings as made_settings

schemathesis = pytest.importorskip("schemathesis", reason="schemathesis is not installed: pip install -e '.[dev]'")

IMAGES = st.binary(max_size=200) | st.sampled_from([shade(1), photo(), photo()[:300]])

for kind in ("image/jpeg", "image/png", "image/webp"):
    schemathesis.openapi.media_type(kind, IMAGES)


@pytest.fixture(scope="module")
def server():
    with live(limits__receive_seconds=2) as running:
        yield running


schema = schemathesis.openapi.from_dict(create_app(fake_bundle(), made_settings()).openapi())


def test_every_route_of_the_document_is_sent_requests():
    document = create_app(fake_bundle(), made_settings()).openapi()["paths"]
    sent = {(operation.ok().method, operation.ok().path) for operation in schema.get_all_operations()}
    assert sent == {(method, path) for path, methods in document.items() for method in methods}


@schema.parametrize()
@settings(max_examples=15, deadline=None, suppress_health_check=list(HealthCheck))
def test_every_answer_is_as_documented(case, server):
    if "model" in case.path_parameters and case.path_parameters["model"] != "clip":
        case.path_parameters["model"] = NAME
    if TIMEOUT_HEADER in (case.headers or {}) and str(case.headers[TIMEOUT_HEADER]).isdigit():
        case.headers[TIMEOUT_HEADER] = (
            str(case.headers[TIMEOUT_HEADER]) + "00000"
        )  # in a millisecond nothing is answered
    case.call_and_validate(
        base_url=server.url,
        checks=[
            schemathesis.checks.not_a_server_error,
            schemathesis.specs.openapi.checks.status_code_conformance,
            schemathesis.specs.openapi.checks.content_type_conformance,
            schemathesis.specs.openapi.checks.response_schema_conformance,
        ],
    )
