"""The service's own errors, and the one table from error codes to HTTP statuses.

    ServiceError                     internal_error           500
    ├── RequestError                 invalid_request          400   malformed field; ``param`` names it
    │   ├── ImageUrlError            image_url_refused        400
    │   └── MediaTypeError           unsupported_media_type   415
    ├── UnauthorizedError            unauthorized             401
    ├── QuotaError                   quota_exceeded           429   the key's own; with Retry-After
    ├── NotAcceptableError           not_acceptable           406
    ├── BodyTooLargeError            payload_too_large        413
    ├── ReceiveTimeoutError          receive_timeout          408
    ├── ModelNotFoundError           model_not_found          404
    ├── SpaceMismatchError           embedding_space_mismatch 409
    ├── OverloadedError              overloaded               503   with Retry-After
    ├── UnavailableError             unavailable              503   starting or draining, with Retry-After
    ├── DeadlineError                deadline_exceeded        504
    ├── DecodeError                  decode_failed            500   with worker processes only
    └── EngineError                  engine_error             500

Image errors come from :mod:`bootleg_bundle.errors`. A message is written for the caller; what
another library said goes to the log, with the request's id.
"""

from __future__ import annotations

from typing import Final

from bootleg_bundle.errors import BootlegError

STATUS: Final[dict[str, int]] = {
    "empty_image": 400,
    "invalid_image": 400,
    "unsupported_image_format": 415,
    "image_too_large": 413,
    "corrupt_image": 422,
    "invalid_request": 400,
    "image_url_refused": 400,
    "unsupported_media_type": 415,
    "unauthorized": 401,
    "quota_exceeded": 429,
    "not_acceptable": 406,
    "payload_too_large": 413,
    "receive_timeout": 408,
    "not_found": 404,
    "method_not_allowed": 405,
    "model_not_found": 404,
    "embedding_space_mismatch": 409,
    "overloaded": 503,
    "unavailable": 503,
    "deadline_exceeded": 504,
    "decode_failed": 500,
    "engine_error": 500,
    "internal_error": 500,
}


class ServiceError(BootlegError):
    """Root of the service's errors.

    Attributes:
        param: the field at fault, such as ``images[3]``.
        retry_after: seconds after which a repetition may succeed.
    """

    code = "internal_error"

    def __init__(self, message: str, *, param: str | None = None, retry_after: float | None = None) -> None:
        super().__init__(message)
        self.param = param
        self.retry_after = retry_after


class RequestError(ServiceError):
    """A malformed request."""

    code = "invalid_request"


class ImageUrlError(RequestError):
    """An image was named by URL."""

    code = "image_url_refused"


class MediaTypeError(RequestError):
    """A content type that this route does not take, or that is not the content's."""

    code = "unsupported_media_type"


class UnauthorizedError(ServiceError):
    """No valid API key."""

    code = "unauthorized"


class QuotaError(ServiceError):
    """More images than the key may ask for."""

    code = "quota_exceeded"


class NotAcceptableError(ServiceError):
    """An ``Accept`` that this route cannot satisfy."""

    code = "not_acceptable"


class BodyTooLargeError(ServiceError):
    """More bytes than the route takes."""

    code = "payload_too_large"


class ReceiveTimeoutError(ServiceError):
    """The body did not arrive in time."""

    code = "receive_timeout"


class ModelNotFoundError(ServiceError):
    """No such model is served."""

    code = "model_not_found"


class SpaceMismatchError(ServiceError):
    """The client pinned another embedding space."""

    code = "embedding_space_mismatch"


class OverloadedError(ServiceError):
    """A queue is full."""

    code = "overloaded"


class UnavailableError(ServiceError):
    """The service is starting or draining."""

    code = "unavailable"


class DeadlineError(ServiceError):
    """The answer was not ready in time."""

    code = "deadline_exceeded"


class DecodeError(ServiceError):
    """Decoding this image took too long, or ended the process that tried."""

    code = "decode_failed"


class EngineError(ServiceError):
    """The model failed on this image."""

    code = "engine_error"


class StartupError(ServiceError):
    """The service cannot start as configured."""

    code = "startup_failed"
