"""The routes that are asked most: found and called without what FastAPI does for any route.

FastAPI matches a path twice in each router, solves the dependencies and validates the options of every request anew,
and a header is looked for in all of them each time: together as much as a whole answer from the cache takes. A request
without options needs none of it; one with options goes the usual way, and so does every route that makes anything else
than a Response.
"""

from __future__ import annotations

import inspect
from functools import partial
from typing import TYPE_CHECKING, Any

from fastapi import Request, Response, params
from fastapi.routing import APIRoute
from starlette._utils import get_route_path  # which Starlette's own routes ask
from starlette.datastructures import Headers

from bootleg_bundle.errors import BootlegError
from bootleg_service.access.bearer import admit
from bootleg_service.edge import refusal
from bootleg_service.pipeline import ImageFailure

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from fastapi import APIRouter
    from starlette.types import ASGIApp, Receive, Scope, Send

    from bootleg_service.repeats import Repeats


class DirectRoutes:
    """ASGI middleware: those routes of some routers that take the request, text of the path and a model of options.

    The application behind it keeps the same routes for all other requests and for the OpenAPI document. Its one
    dependency, :func:`authorised`, is called in its place, and its handlers of our own errors.

    Args:
        app: serves all other requests.
        routers: each with what keeps its routes' answers whole, if anything does. The routes' paths are whole, with no
            prefix to come.

    Attributes:
        routes: that are called so, looked through in the order of the routers.
    """

    def __init__(self, app: ASGIApp, routers: Iterable[tuple[APIRouter, Repeats | None]]) -> None:
        self.routes: list[APIRoute] = []
        self._app = app
        self._called: dict[Callable[..., Any], tuple[dict[str, Any], Repeats | None]] = {}
        for router, repeats in routers:
            for route in (route for route in router.routes if isinstance(route, APIRoute)):
                signature = inspect.signature(route.endpoint, eval_str=True)
                if signature.return_annotation is Response:
                    self.routes.append(route)
                    self._called[route.endpoint] = _defaults(signature), repeats

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request without options, or let the application."""
        if scope["type"] == "http" and not scope["query_string"]:
            path, method = get_route_path(scope), scope["method"]
            for route in self.routes:
                found = route.path_regex.match(path)
                if found and method in (route.methods or ()):
                    scope.update(endpoint=route.endpoint, route=route, path_params=found.groupdict())
                    answer = await self._answer(_Request(scope, receive, send), route.endpoint)
                    await answer(scope, receive, send)
                    return
        await self._app(scope, receive, send)

    async def _answer(self, request: Request, endpoint: Callable[..., Any]) -> Response:
        defaults, repeats = self._called[endpoint]
        make = partial(endpoint, request, **request.scope["path_params"], **defaults)
        try:
            admit(request)
            answer: Response = await (make() if repeats is None else repeats.answer(request, make))
        except (BootlegError, ImageFailure) as error:
            return refusal(request, error)
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
