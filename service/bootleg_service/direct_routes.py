"""The routes that are asked most: found and called without what FastAPI does for any route.

FastAPI matches a path twice in each router, solves the dependencies and validates the options of every request anew,
and a header is looked for in all of them each time: together as much as a whole answer from the cache takes. A request
without options needs none of it; one with options goes the usual way, and so does every route that makes anything else
than a Response.
"""

from __future__ import annotations

import inspect
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from fastapi import Request, Response, params
from fastapi.routing import APIRoute
from starlette._utils import get_route_path  # which Starlette's own routes ask
from starlette.datastructures import Headers

from bootleg_bundle.errors import BootlegError
from bootleg_service.access.bearer import admit
from bootleg_service.edge import error_response
from bootleg_service.pipeline import ImageFailure

if TYPE_CHECKING:
    from collections.abc import Iterable

    from fastapi import APIRouter
    from starlette.types import ASGIApp, Receive, Scope, Send


@dataclass(frozen=True, eq=False)
class _Direct:
    route: APIRoute
    defaults: dict[str, Any]


class DirectRoutes:
    """ASGI middleware: those routes of some routers that take the request, text of the path and a model of options.

    The application behind it keeps the same routes for all other requests and for the OpenAPI document. What its one
    dependency and its handlers of our own errors do is done here.

    Args:
        app: serves all other requests.
        routers: looked through in this order; their routes' paths are whole, with no prefix to come.
    """

    def __init__(self, app: ASGIApp, routers: Iterable[APIRouter]) -> None:
        self._app = app
        self._direct: list[_Direct] = []
        for route in (route for router in routers for route in router.routes if isinstance(route, APIRoute)):
            signature = inspect.signature(route.endpoint, eval_str=True)
            if signature.return_annotation is Response:
                self._direct.append(_Direct(route, _defaults(signature)))

    @property
    def paths(self) -> set[str]:
        """Of the routes that are called so."""
        return {direct.route.path for direct in self._direct}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request without options, or let the application."""
        if scope["type"] == "http" and not scope["query_string"]:
            path, method = get_route_path(scope), scope["method"]
            for direct in self._direct:
                route = direct.route
                found = route.path_regex.match(path)
                if found and method in (route.methods or ()):
                    scope.update(endpoint=route.endpoint, route=route, path_params=found.groupdict())
                    answer = await _answer(direct, _Request(scope, receive, send))
                    await answer(scope, receive, send)
                    return
        await self._app(scope, receive, send)


async def _answer(direct: _Direct, request: Request) -> Response:
    try:
        admit(request)
        answer: Response = await direct.route.endpoint(request, **request.scope["path_params"], **direct.defaults)
    except (BootlegError, ImageFailure) as error:
        return error_response(request, error)
    return answer


class _Request(Request):
    """Its headers are looked up at once: Starlette goes through all of them for each."""

    @property
    def headers(self) -> Headers:
        """Of the request."""
        if not hasattr(self, "_headers"):
            self._headers = _Headers(raw=self.scope["headers"])
        return self._headers


class _Headers(Headers):
    def __init__(self, raw: list[tuple[bytes, bytes]]) -> None:
        super().__init__(raw=raw)
        self._first = dict(reversed(raw))  # of several with one name the first counts, as it does for Starlette

    def get(self, key: str, default: Any = None) -> Any:
        value = self._first.get(key.lower().encode("latin-1"))
        return default if value is None else value.decode("latin-1")


def _defaults(signature: inspect.Signature) -> dict[str, Any]:
    """By argument: the options of a request that has none. They are not changed, and so shared."""
    return {
        argument.name: argument.annotation.__origin__()
        for argument in signature.parameters.values()
        if any(isinstance(mark, params.Query) for mark in getattr(argument.annotation, "__metadata__", ()))
    }
