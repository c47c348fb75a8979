"""Which web pages may ask from a browser: those of listed origins, with a key that they hold themselves.

Never with credentials of the browser's (cookies), which this service has none of.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from bootleg_service.admission import PRIORITY_HEADER, TIMEOUT_HEADER
from bootleg_service.state import SPACE_HEADER

if TYPE_CHECKING:
    from collections.abc import Sequence

_SENT: Final = ("Authorization", "Content-Type", "X-Request-ID", SPACE_HEADER, PRIORITY_HEADER, TIMEOUT_HEADER)
_READ: Final = (
    *("X-Request-ID", SPACE_HEADER, "X-Cache", "X-Errors", "X-Shape", "X-Dtype", "X-Mask-Image", "X-Mask-Box"),
    *("Server-Timing", "Retry-After"),
)


def cors(origins: Sequence[str]) -> dict[str, Any]:
    """Arguments of Starlette's ``CORSMiddleware``."""
    return {
        "allow_origins": list(origins),
        "allow_methods": ["GET", "POST"],
        "allow_headers": list(_SENT),
        "expose_headers": list(_READ),
        "allow_credentials": False,
        "max_age": 600,
    }
