"""The routes that are asked most: found and called without what FastAPI does for any route.

FastAPI matches a path twice in each router, solves the dependencies and validates the options of every request anew:
as much as a whole answer from the cache takes. A request without options needs none of it; one with options goes the
usual way, and so does every route that makes anything else than a Response.
"""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING, Any

from fastapi import Request, Response, params
from fastapi.routing import APIRoute
from starlette._utils import get_route_path  # which Starlette's own routes ask
from starlette.routing import BaseRoute, Match

from bootleg_service.access.bearer import admit

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from fastapi import APIRouter
    from starlette.types import Receive, Scope, Send


class DirectRoutes(BaseRoute):
    """Those routes of some routers that take the request, text from their path and a model of options with defaults.

    It stands before the routers, which keep the same routes for all other requests and for the OpenAPI document. The
    application's one dependency, :func:`authorised`, is called in its place.

    Args:
        routers: their routes' paths are whole, with no prefix to come.

    Attributes:
        routes: that are called so, looked through in the order of the routers.
    """

    def __init__(self, routers: Iterable[APIRouter]) -> None:
        self.routes: list[APIRoute] = []
        self._defaults: dict[Callable[..., Any], dict[str, Any]] = {}
        for route in (route for router in routers for route in router.routes if isinstance(route, APIRoute)):
            signature = inspect.signature(route.endpoint, eval_str=True)
            if signature.return_annotation is Response:
                self.routes.append(route)
                self._defaults[route.endpoint] = _defaults(signature)

    def matches(self, scope: Scope) -> tuple[Match, Scope]:
        """Find the route of a request without options."""
        if scope["type"] != "http" or scope["query_string"]:
            return Match.NONE, {}
        path, method = get_route_path(scope), scope["method"]
        for route in self.routes:
            found = route.path_regex.match(path)
            if found and method in (route.methods or ()):
                return Match.FULL, {"endpoint": route.endpoint, "route": route, "path_params": found.groupdict()}
        return Match.NONE, {}

    async def handle(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer it."""
        request = Request(scope, receive, send)
        admit(request)
        endpoint = scope["endpoint"]
        response = await endpoint(request, **scope["path_params"], **self._defaults[endpoint])
        await response(scope, receive, send)


def _defaults(signature: inspect.Signature) -> dict[str, Any]:
    """By argument: the options of a request that has none. They are not changed, and so shared."""
    return {
        argument.name: argument.annotation.__origin__()
        for argument in signature.parameters.values()
        if any(isinstance(mark, params.Query) for mark in getattr(argument.annotation, "__metadata__", ()))
    }
