"""A key in ``Authorization: Bearer``, asked of every route but those of :data:`OPEN`, and of ``/metrics`` if so set.

The application has it as a dependency of all its routes, so that none can be forgotten; it runs before a body is
read, and leaves in the request's state whose request it is. The page's files are no routes of the API: they hold
nothing, and are open.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

from fastapi import Depends, Request
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer
from fastapi.security.utils import get_authorization_scheme_param

from bootleg_service.errors import UnauthorizedError

if TYPE_CHECKING:
    from bootleg_service.access.keys import Key, KeyRing

OPEN = frozenset(
    {
        "/health/live",
        "/health/ready",
        "/health/started",
        "/v2/health/live",
        "/v2/health/ready",
        "/.well-known/live",
        "/.well-known/ready",
    }
    | {"/docs"}
)
"""What orchestrators ask, who have no key, and which says nothing but yes or no; and the page of documents, which with
keys is not there unless an operator wants it."""
ADMIN = "/admin/"
"""Routes under it are there only with keys of operators, and take those alone."""

_bearer = HTTPBearer(auto_error=False, scheme_name="API key", description="needed when the server has keys")


async def authorised(
    request: Request, _documented: Annotated[HTTPAuthorizationCredentials | None, Depends(_bearer)]
) -> None:
    """The dependency: :func:`admit`, and what the OpenAPI document says of it."""
    admit(request)


def admit(request: Request) -> None:
    """Let a request with a valid key pass, or any request when the server has no keys.

    Raises:
        UnauthorizedError: no key, or a wrong one; the answer is the same.
    """
    state, path = request.app.state, request.scope["path"]
    ring: KeyRing | None = state.admin_keys if path.startswith(ADMIN) else state.keys
    if ring is None or path in state.open:
        return
    scheme, credentials = get_authorization_scheme_param(request.headers.get("authorization"))
    key = ring.find(credentials.encode("latin-1", "replace")) if scheme.lower() == "bearer" and credentials else None
    if key is None:
        raise UnauthorizedError("a valid API key is needed: Authorization: Bearer KEY")
    request.state.key = key


def key_of(request: Request) -> Key | None:
    """The key a request came with; None when the server has none."""
    key: Key | None = request.scope["state"].get("key")
    return key
