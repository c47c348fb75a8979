"""The routes that are asked most: called without what FastAPI does for any route.

FastAPI solves the dependencies and validates the options of every request anew: 0.15 ms, as much as a whole answer from
the cache may take. A request without options needs neither; one with options goes the usual way.
"""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING, Any

from fastapi import Request, Response, params
from fastapi.routing import APIRoute

from bootleg_service.access.bearer import admit

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine


class DirectRoute(APIRoute):
    """A route that takes the request, text from its path and a model of options with defaults, and makes a Response.

    The application's one dependency, :func:`authorised`, is called in its place. A route that answers with anything
    else than a Response goes the usual way, always.
    """

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """What answers a request; FastAPI's own hook for it."""
        usual = super().get_route_handler()
        signature = inspect.signature(self.endpoint, eval_str=True)
        if signature.return_annotation is not Response:
            return usual
        endpoint, defaults = self.endpoint, _defaults(signature)

        async def answer(request: Request) -> Response:
            if request.scope["query_string"]:
                return await usual(request)
            admit(request)
            response: Response = await endpoint(request, **request.path_params, **defaults)
            return response

        return answer


def _defaults(signature: inspect.Signature) -> dict[str, Any]:
    """By argument: the options of a request that has none. They are not changed, and so shared."""
    return {
        argument.name: argument.annotation.__origin__()
        for argument in signature.parameters.values()
        if any(isinstance(mark, params.Query) for mark in getattr(argument.annotation, "__metadata__", ()))
    }
