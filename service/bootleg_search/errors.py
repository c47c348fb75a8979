"""What this package raises beside the client's own errors.

ClientError
└── SearchError                     search_error
    ├── MixedSpacesError (ValueError)  mixed_spaces   vectors of two models, or of nobody knows which
    └── TextRefusedError (ValueError)  text_refused   a library asked for the vector of a text
"""

from __future__ import annotations

from bootleg_client import ClientError


class SearchError(ClientError):
    """Root of these errors."""

    code = "search_error"


class MixedSpacesError(SearchError, ValueError):
    """The collection's vectors and the service's may not be compared."""

    code = "mixed_spaces"


class TextRefusedError(SearchError, ValueError):
    """A text has no vector here: the model takes images only."""

    code = "text_refused"
