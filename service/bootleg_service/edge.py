"""The outermost layer: request ids, standard headers, error envelopes, and one outcome for each request."""

from __future__ import annotations

import asyncio
import logging
import math
import random
import re
import time
from typing import TYPE_CHECKING, Any

from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response

from bootleg_bundle.errors import BootlegError
from bootleg_service import stages
from bootleg_service.answers import JSON, to_json
from bootleg_service.dialects.envelopes import Fault, dialect_of
from bootleg_service.errors import STATUS, RequestError, ServiceError, UnavailableError
from bootleg_service.pipeline import ImageFailure
from bootleg_service.state import HELD, SPACE_HEADER
from bootleg_service.telemetry.endings import CLIENT_CLOSED, CLOSED_STATUS

if TYPE_CHECKING:
    from collections.abc import Iterable

    from fastapi import FastAPI
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

    from bootleg_bundle import Bundle
    from bootleg_service.stages import Record
    from bootleg_service.state import Service
    from bootleg_service.telemetry.endings import Endings

log = logging.getLogger("bootleg.edge")

_REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")

_SPACE = SPACE_HEADER.lower().encode()
_DEFAULTS = ((b"x-content-type-options", b"nosniff"), (b"cache-control", b"no-store"))
"""Where an answer does not say otherwise, as the page's files do of caches."""


class Edge:
    """ASGI middleware; pure, so that a request costs no extra task."""

    def __init__(self, app: ASGIApp, endings: Endings) -> None:
        self._app = app
        self._endings = endings

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        begun = time.perf_counter()
        offered = dict(scope["headers"]).get(b"x-request-id", b"").decode("latin-1")
        request_id = offered if _REQUEST_ID.fullmatch(offered) else _new_id()
        state = scope.setdefault("state", {})
        state |= {"request_id": request_id, "outcome": CLIENT_CLOSED, "status": None}
        record = stages.begin(request_id, self._endings.begin(scope))

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                state["status"] = message["status"]
                if state["outcome"] == CLIENT_CLOSED:
                    state["outcome"] = "ok" if message["status"] < 400 else "unavailable"
                message["headers"] = _headers(message["headers"], scope, record)
            else:
                record.sent += len(message.get("body", b""))
            await send(message)

        try:
            await self._app(scope, receive, send_with_headers)
        except ClientDisconnect:
            pass  # the outcome says so
        except (Exception, asyncio.CancelledError) as error:
            answer = None if state["status"] is not None else _last_answer(error, Request(scope))
            if answer is None:
                if isinstance(error, Exception):
                    state["outcome"] = "internal_error"
                raise
            await answer(scope, receive, send_with_headers)
        finally:
            _let_go(state)
            seconds = time.perf_counter() - begun
            self._endings.end(scope, record, state["status"] or CLOSED_STATUS, state["outcome"], seconds)


def _new_id() -> str:
    """32 hexadecimal digits, new but no secret: to ask the system for its random bits is a call of it each time."""
    return f"{random.getrandbits(128):032x}"


def install_error_handlers(app: FastAPI) -> None:
    """Answer every error in the envelope of the path's dialect."""
    app.add_exception_handler(BootlegError, _ours)
    app.add_exception_handler(ImageFailure, _ours)
    app.add_exception_handler(RequestValidationError, _validation)
    app.add_exception_handler(HTTPException, _http)


async def _ours(request: Request, error: Exception) -> Response:
    assert isinstance(error, BootlegError | ImageFailure)
    return error_response(request, error)


async def _validation(request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)
    first = error.errors()[0]
    field = str(first["loc"][-1])
    return error_response(request, RequestError(f"{field}: {first['msg']}", param=field))


async def _http(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    code = {404: "not_found", 405: "method_not_allowed"}.get(error.status_code, "invalid_request")
    message = {404: "no such route; see /docs", 405: "this route does not take that method"}.get(
        error.status_code, "the request cannot be read"
    )
    response = _envelope(request, error.status_code, code, message)
    response.headers.update(error.headers or {})
    return response


def _last_answer(error: BaseException, request: Request) -> Response | None:
    """What is said when nothing else was; None of a request that was given up by whoever made it."""
    if not isinstance(error, asyncio.CancelledError):
        log.error("request %s failed", request.state.request_id, exc_info=error)
        return _envelope(request, 500, "internal_error", "an internal error; the server's log has the request id")
    if not request.app.state.models.draining:
        return None
    # Only the server cancels then: the drain has reached its bound.
    end = UnavailableError("the service is shutting down; this was not answered in time", retry_after=1)
    return error_response(request, end)


def _let_go(state: dict[str, Any]) -> None:
    for service in state.get(HELD, ()):
        service.let_go()


def _headers(given: Iterable[tuple[bytes, bytes]], scope: Scope, record: Record) -> list[tuple[bytes, bytes]]:
    """An answer's headers, and the standard ones behind them."""
    headers = list(given)
    names = {name for name, _ in headers}
    headers.append((b"x-request-id", record.request_id.encode()))
    headers += [default for default in _DEFAULTS if default[0] not in names]
    if _SPACE not in names:
        headers.append((_SPACE, _space(scope).encode()))
    if record.seconds:
        headers.append((b"server-timing", stages.server_timing(record).encode()))
    return headers


def _space(scope: Scope) -> str:
    """The space of the model that the request found, else of the default one."""
    held: list[Service] = scope["state"].get(HELD, [])
    bundle: Bundle = held[-1].bundle if held else scope["app"].state.models.slots[0].bundle
    return bundle.manifest.embedding_space


def error_response(request: Request, error: BootlegError | ImageFailure) -> Response:
    """The envelope and the status of one of our errors."""
    param = error.param if isinstance(error, ImageFailure) else getattr(error, "param", None)
    error = error.error if isinstance(error, ImageFailure) else error
    response = _envelope(request, STATUS.get(error.code, 500), error.code, error.message, param)
    if error.code in {"payload_too_large", "receive_timeout"}:
        response.headers["Connection"] = "close"  # the rest of the body is not wanted
    if error.code == "unauthorized":
        response.headers["WWW-Authenticate"] = "Bearer"  # RFC 6750
    if isinstance(error, ServiceError) and error.retry_after is not None:
        response.headers["Retry-After"] = str(max(1, math.ceil(error.retry_after)))
    return response


def _envelope(request: Request, status: int, code: str, message: str, param: str | None = None) -> Response:
    request.state.outcome = code
    request_id = request.state.request_id
    body = dialect_of(request.url.path).render(Fault(status, code, message, request_id, param))
    return Response(to_json(body), status_code=status, media_type=JSON)
