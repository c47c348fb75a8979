"""Every error the client raises, and the one function that makes an error of an answer's envelope.

ClientError                      client_error
├── InputError (ValueError)      invalid_input      an image or an argument that cannot be sent
├── ConnectionLostError          connection_lost    no whole answer arrived
├── CallDeadlineError            call_deadline      the call's own deadline; ``__cause__`` is the last fault
├── AnswerError                  invalid_answer     not what the API promises
└── ApiError                     the service's      an error that the service answered
    ├── RequestRefusedError                         4xx
    │   ├── ImageRefusedError                       one image: empty, corrupt, too large, of another format
    │   ├── AuthenticationError                     401, 403
    │   ├── ModelNotFoundError                      model_not_found
    │   └── SpaceMismatchError                      409: not the space that was pinned
    ├── OverloadedError                             429, 503: a repetition may succeed
    └── ServerError                                 other 5xx
"""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any

from bootleg_bundle.errors import BootlegError

if TYPE_CHECKING:
    from bootleg_client.steps import Reply

_INDEX = re.compile(r"(?:images|input)\[(\d{1,6})\]")
_IMAGE_CODES = frozenset(
    {"empty_image", "invalid_image", "unsupported_image_format", "image_too_large", "corrupt_image"},
)


class ClientError(BootlegError):
    """Root of the client's errors.

    Attributes:
        request_id: of the request that failed, to look for in the service's log; None when none was sent.
    """

    code = "client_error"
    request_id: str | None = None


class InputError(ClientError, ValueError):
    """An image or an argument that cannot be sent."""

    code = "invalid_input"


class ConnectionLostError(ClientError):
    """No whole answer arrived."""

    code = "connection_lost"


class CallDeadlineError(ClientError, TimeoutError):
    """The call's deadline passed before an answer arrived."""

    code = "call_deadline"


class AnswerError(ClientError):
    """An answer that is not what the API promises."""

    code = "invalid_answer"


class ApiError(ClientError):
    """An error that the service, or a proxy before it, answered.

    Attributes:
        code: the service's code, such as ``corrupt_image``; ``http_502`` and the like where a proxy gave none.
        status: of HTTP.
        param: the field at fault, in the service's words.
        index: the image at fault, counted as the call's images are; None when it is not one image's fault.
    """

    code: str  # type: ignore[misc]  # the service's, so an instance's and not the class's

    def __init__(self, message: str, *, code: str, status: int, param: str | None, request_id: str | None) -> None:
        super().__init__(message)
        self.code, self.status, self.param, self.request_id = code, status, param, request_id
        found = _INDEX.fullmatch(param or "")
        self.index = int(found[1]) if found else None

    def __str__(self) -> str:
        where = f", request {self.request_id}" if self.request_id else ""
        return f"{self.message} ({self.code}, HTTP {self.status}{where})"


class RequestRefusedError(ApiError):
    """The service refused the request."""


class ImageRefusedError(RequestRefusedError):
    """The service refused one image."""


class AuthenticationError(RequestRefusedError):
    """The key is missing, wrong, or may not do this."""


class ModelNotFoundError(RequestRefusedError):
    """No such model is served."""


class SpaceMismatchError(RequestRefusedError):
    """The service answers from another embedding space than the one asked for."""


class OverloadedError(ApiError):
    """The service has too much to do, or is starting or stopping."""


class ServerError(ApiError):
    """A fault of the service."""


def api_error(reply: Reply) -> ApiError:
    """The error of an answer whose status is not 2xx."""
    error = _envelope(reply.content)
    code = str(error.get("code") or f"http_{reply.status}")
    message = str(error.get("message") or f"the answer was HTTP {reply.status} without an error envelope")
    param = error.get("param")
    return _class_of(reply.status, code)(
        message,
        code=code,
        status=reply.status,
        param=param if isinstance(param, str) else None,
        request_id=reply.header("x-request-id"),
    )


def _envelope(content: bytes) -> dict[str, Any]:
    try:
        body = json.loads(content)
    except (ValueError, RecursionError):
        return {}
    error = body.get("error") if isinstance(body, dict) else None
    return error if isinstance(error, dict) else {}


def _class_of(status: int, code: str) -> type[ApiError]:
    if code in _IMAGE_CODES:
        return ImageRefusedError
    if code == "model_not_found":
        return ModelNotFoundError
    by_status: dict[int, type[ApiError]] = {
        401: AuthenticationError,
        403: AuthenticationError,
        409: SpaceMismatchError,
        429: OverloadedError,
        503: OverloadedError,
    }
    return by_status.get(status, ServerError if status >= 500 else RequestRefusedError)
