"""What the OpenAPI document says of requests and errors beyond the models. Routes take their arguments from here."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from bootleg_bundle.errors import BootlegError
from bootleg_service import answers
from bootleg_service.admission import LANES, MAX_TIMEOUT_MS, PRIORITY_HEADER, TIMEOUT_HEADER
from bootleg_service.dialects.envelopes import OPENAI, Dialect, Fault
from bootleg_service.errors import STATUS
from bootleg_service.state import SPACE_HEADER

if TYPE_CHECKING:
    from fastapi import FastAPI
    from pydantic import BaseModel

BINARY: Final = {kind: {"schema": {"type": "string", "format": "binary"}} for kind in (answers.NPY, answers.RAW)}

IMAGE_BODY: Final[dict[str, Any]] = {
    "required": True,
    "content": {
        **{
            kind: {"schema": {"type": "string", "format": "binary"}}
            for kind in ("image/jpeg", "image/png", "image/webp")
        },
        "multipart/form-data": {
            "schema": {
                "type": "object",
                "required": ["images"],
                "properties": {"images": {"type": "array", "items": {"type": "string", "format": "binary"}}},
            }
        },
    },
}

_HEADERS: Final[dict[str, Any]] = {
    "X-Request-ID": "the request's, if it sent a sane one, else made here",
    SPACE_HEADER: "the space that the vectors live in",
    "X-Cache": "hit, miss, or partial; hits=3/8",
    "Server-Timing": "milliseconds in read, wait, decode, preprocess, queue, infer, mask and encode",
}
_PIN: Final = {
    "name": SPACE_HEADER,
    "in": "header",
    "required": False,
    "description": "Answer from this space or with 409.",
    "schema": {"type": "string"},
}
_PRIORITY: Final = {
    "name": PRIORITY_HEADER,
    "in": "header",
    "required": False,
    "description": "`bulk` gives way to `interactive`, and never starves.",
    "schema": {"type": "string", "enum": list(LANES), "default": "interactive"},
}
_TIMEOUT: Final = {
    "name": TIMEOUT_HEADER,
    "in": "header",
    "required": False,
    "description": "Milliseconds from the body's end to the answer; the server's own deadline, if that is sooner.",
    "schema": {"type": "integer", "minimum": 1, "maximum": MAX_TIMEOUT_MS},
}
_RETRY_AFTER: Final = {
    "Retry-After": {
        "description": "Seconds after which asking again may succeed; absent where it never can.",
        "schema": {"type": "integer", "minimum": 1},
    }
}
_FRAMEWORK: Final = {
    "not_found": "No such route.",
    "method_not_allowed": "This route does not take that method.",
    "internal_error": "An internal error; the server's log has the request id.",
}
_OF_ANY_ROUTE: Final = {401, 403, 429}
_RETRIED: Final = {429, 503, 504}


def body(model: type[BaseModel]) -> dict[str, Any]:
    """A JSON body, whose route parses it by itself; :func:`install` moves its parts to the components."""
    schema = model.model_json_schema(ref_template="#/components/schemas/{model}")
    return {"required": True, "content": {"application/json": {"schema": schema}}}


def of_images(
    answer: Any,
    request_body: dict[str, Any],
    *,
    binary: bool = False,
    without: tuple[str, ...] = (),
    dialect: Dialect = OPENAI,
) -> dict[str, Any]:
    """Arguments of a route that takes images: its body, its answer, and every error it may give."""
    codes = [code for code in STATUS if code not in {"not_found", "method_not_allowed", *without}]
    headers = {name: {"description": says, "schema": {"type": "string"}} for name, says in _HEADERS.items()}
    good: dict[str, Any] = {"model": answer, "headers": headers}
    return {
        "responses": {200: good | {"content": BINARY} if binary else good} | errors(*codes, dialect=dialect),
        "openapi_extra": {"requestBody": request_body, "parameters": [_PIN, _PRIORITY, _TIMEOUT]},
    }


def errors(*codes: str, dialect: Dialect = OPENAI) -> dict[int | str, dict[str, Any]]:
    """Responses for error codes, with those of any route: by status, an example for each code."""
    given = {*codes, "internal_error", *(code for code, status in STATUS.items() if status in _OF_ANY_ROUTE)}
    meanings = _meanings()
    responses: dict[int | str, dict[str, Any]] = {}
    for code, status in STATUS.items():
        if code not in given:
            continue
        fault = Fault(status, code, meanings[code], "0123456789abcdef0123456789abcdef")
        response = responses.setdefault(
            status, {"model": dialect.model, "description": "", "content": {answers.JSON: {"examples": {}}}}
        )
        if status in _RETRIED:
            response["headers"] = _RETRY_AFTER
        response["content"][answers.JSON]["examples"][code] = {"value": dialect.render(fault)}
        response["description"] = f"{response['description']} {meanings[code]}".strip()
    return responses


def _meanings() -> dict[str, str]:
    """What each code means: the first line of its class's docstring."""
    found: dict[str, str] = {}
    classes = [BootlegError]
    while classes:
        error = classes.pop()
        classes += error.__subclasses__()
        found.setdefault(error.code, (error.__doc__ or "").partition("\n")[0])
    return found | _FRAMEWORK


def install(app: FastAPI) -> None:
    """Mend what FastAPI makes of routes: bodies that they parse themselves, and a 422 that they never answer with."""
    generate = app.openapi

    def document() -> dict[str, Any]:
        if app.openapi_schema is None:
            made = generate()
            schemas = made["components"]["schemas"]
            for operation in (operation for path in made["paths"].values() for operation in path.values()):
                if "HTTPValidationError" in str(operation["responses"].get("422")):
                    del operation["responses"]["422"]  # a request that does not fit a route is answered with 400
                content = operation.get("requestBody", {"content": {}})["content"]
                for part in content.values():
                    schemas |= part["schema"].pop("$defs", {})
            for name in ("HTTPValidationError", "ValidationError"):
                schemas.pop(name, None)
        assert app.openapi_schema is not None
        return app.openapi_schema

    app.openapi = document  # type: ignore[method-assign]  # FastAPI's documented way
